// Contrast ratio (WCAG 2.2, 1.4.3) of every pair of text colour and background on the page.
() => {
  const parse = (text) => {
    const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    context.fillStyle = text;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const blend = (over, under) => over.slice(0, 3).map((c, i) => (c * over[3] + under[i] * (255 - over[3])) / 255);
  const background = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, over) => blend(over, under), [255, 255, 255]);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = {};
  for (const element of document.querySelectorAll("body *:not(script):not(style)")) {
    const texts = [...element.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim());
    if (!texts || !element.checkVisibility()) continue;
    const svg = element.closest("svg");
    const colour = parse(svg ? getComputedStyle(element).fill : getComputedStyle(element).color);
    const under = background(svg ? svg.parentElement : element);
    const [light, dark] = [luminance(blend(colour, under)), luminance(under)].sort((a, b) => b - a);
    const key = `${element.tagName} ${element.className.baseVal ?? element.className} ${colour} on ${under}`;
    found[key] = (light + 0.05) / (dark + 0.05);
  }
  return found;
};
