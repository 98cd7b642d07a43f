"use strict";
(() => {
  const nav = document.getElementById("nav");
  const main = document.getElementById("main");
  const links = [...nav.querySelectorAll('a[href^="#"]')];
  const filter = document.getElementById("filter");

  // --- what the page keeps until it is asked for: bodies of folds, and each picture once

  let read = null;
  const kept = () => {
    if (!read) {
      const block = document.getElementById("kept");
      read = block ? JSON.parse(block.textContent) : { bodies: {}, anchors: {}, packs: [], pictures: {} };
    }
    return read;
  };
  const show = (within) => {
    for (const image of within.querySelectorAll("img[data-picture]")) {
      const number = image.dataset.picture;
      const first = main.querySelector(`img[data-first="${number}"]`);
      image.src = first ? first.src : kept().pictures[number];
      image.removeAttribute("data-picture");
    }
  };
  const unpacked = new Map();
  const pack = (number) => {
    if (!unpacked.has(number)) {
      const bytes = Uint8Array.from(atob(kept().packs[number]), (letter) => letter.charCodeAt(0));
      const text = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      unpacked.set(number, new Response(text).text().then((bodies) => bodies.split("\0")));
    }
    return unpacked.get(number);
  };
  const fill = async (place) => {
    const where = kept().bodies[place.dataset.kept];
    if (!where || place.dataset.filled) return;
    place.dataset.filled = "yes";
    try {
      place.innerHTML = (await pack(where[0]))[where[1]];
      show(place);
    } catch (error) {
      place.textContent = "This browser cannot unpack it (" + error.message + "); the tables beside this page have its numbers.";
    }
  };
  const open = async (fold) => {
    fold.open = true;
    await Promise.all([...fold.querySelectorAll(":scope > [data-kept]")].map(fill));
  };
  main.addEventListener("toggle", (event) => { if (event.target.open) open(event.target); }, true);
  show(main);

  // --- links and deep links

  let pinned = false;

  // Opens what is folded around the target, so that a deep link never leads to something hidden.
  const reveal = async () => {
    const id = decodeURIComponent(location.hash.slice(1));
    if (!id) return;
    if (!document.getElementById(id)) {
      const place = main.querySelector(`[data-kept="${CSS.escape(kept().anchors[id] ?? "")}"]`);
      if (!place) return;
      await open(place.closest("details"));
    }
    const target = document.getElementById(id);
    for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
    const fold = target.querySelector(":scope > details.fold");
    if (fold) await open(fold);
    target.scrollIntoView();
    if (target.tabIndex === -1) target.focus({ preventScroll: true });
    pinned = links.some((link) => link.hash === "#" + target.id);
    if (pinned) mark(target.id);
  };

  const mark = (id) => {
    for (const link of links) {
      if (link.hash === "#" + id) {
        link.setAttribute("aria-current", "true");
        link.scrollIntoView({ block: "nearest" });
      } else if (link.hasAttribute("aria-current")) {
        link.removeAttribute("aria-current");
      }
    }
  };

  addEventListener("hashchange", reveal);
  if (matchMedia("(max-width: 60rem)").matches) {
    const contents = nav.querySelector("details");
    contents.open = false;
    nav.addEventListener("click", (event) => {
      if (event.target.closest("a")) contents.open = false;
    });
  }
  reveal();

  // What was asked for stays marked until the reader moves on, even where the page cannot scroll far enough.
  for (const moved of ["wheel", "touchmove", "keydown", "pointerdown"]) {
    addEventListener(moved, () => { pinned = false; }, { passive: true });
  }
  const showing = new Set();
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) showing.add(entry.target.id);
      else showing.delete(entry.target.id);
    }
    if (pinned || !showing.size) return;
    const first = links.find((link) => showing.has(link.hash.slice(1)));
    if (first) mark(first.hash.slice(1));
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const link of links) {
    const section = document.getElementById(link.hash.slice(1));
    // A section that holds other sections would always win over them.
    if (section && !section.querySelector("section[id]")) seen.observe(section);
  }

  // --- the class search

  if (filter) {
    filter.parentElement.hidden = false;
    const items = [...nav.querySelectorAll(".class-list li")];
    const names = items.map((item) => item.firstElementChild.title.toLowerCase());
    filter.addEventListener("input", () => {
      const wanted = filter.value.trim().toLowerCase();
      let left = 0;
      items.forEach((item, i) => {
        const fits = names[i].includes(wanted);
        if (item.hidden === fits) item.hidden = !fits;
        left += fits;
      });
      document.getElementById("no-match").hidden = left > 0;
    });
    filter.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      const wanted = filter.value.trim().toLowerCase();
      if (!wanted) return;
      // A class of that very name before those whose names hold it.
      let at = names.indexOf(wanted);
      if (at < 0) at = items.findIndex((item) => !item.hidden);
      if (at < 0) return;
      const hash = items[at].firstElementChild.hash;
      if (location.hash === hash) reveal();
      else location.hash = hash;
      if (matchMedia("(max-width: 60rem)").matches) nav.querySelector("details").open = false;
    });
  }

  // --- all at once, and print: what is folded is printed open, where that is not a book

  const folds = [...main.querySelectorAll("details.fold")];
  const all = document.getElementById("open-all");
  if (all) {
    all.parentElement.hidden = false;
    all.addEventListener("click", () => Promise.all(folds.map(open)));
    document.getElementById("close-all").addEventListener("click", () => {
      for (const fold of folds) fold.open = false;
    });
  }
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...main.querySelectorAll("details:not([open])")].filter((fold) => !fold.querySelector("[data-kept]:not([data-filled])"));
    if (folded.length < 60) for (const e of folded) e.open = true;
    for (const image of document.images) image.loading = "eager";
  });
  addEventListener("afterprint", () => {
    for (const e of folded) e.open = false;
  });
})();
