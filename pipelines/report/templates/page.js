"use strict";
(() => {
  const nav = document.getElementById("nav");
  const links = [...nav.querySelectorAll('a[href^="#"]')];
  const filter = document.getElementById("filter");

  let pinned = false;

  // Opens what is folded around the target, so that a deep link never leads to something hidden.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
    const fold = target.querySelector(":scope > details.fold");
    if (fold) fold.open = true;
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
      } else {
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
    const first = links.find((link) => showing.has(link.hash.slice(1)));
    if (first && !pinned) mark(first.hash.slice(1));
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const link of links) {
    const section = document.getElementById(link.hash.slice(1));
    // A section that holds other sections would always win over them.
    if (section && !section.querySelector("section[id]")) seen.observe(section);
  }

  if (filter) {
    filter.parentElement.hidden = false;
    const items = [...nav.querySelectorAll(".class-list li")];
    filter.addEventListener("input", () => {
      const wanted = filter.value.trim().toLowerCase();
      let left = 0;
      for (const item of items) {
        const fits = item.firstElementChild.title.toLowerCase().includes(wanted);
        item.hidden = !fits;
        left += fits;
      }
      document.getElementById("no-match").hidden = left > 0;
    });
  }

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("main details:not([open])")];
    if (folded.length < 60) for (const e of folded) e.open = true;
  });
  addEventListener("afterprint", () => {
    for (const e of folded) e.open = false;
  });
})();
