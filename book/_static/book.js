// Formulas that fit, and boxes that tell that they scroll.
(() => {
  const SMALLEST = 0.72;  // of the size of a displayed formula, below which it scrolls instead
  const NAMES = [["mjx-container", "Formula"], ["pre", "Code"], ["*", "Table"]];
  const boxes = () => document.querySelectorAll(
    "article mjx-container[display], article .table-scroll, article pre," +
    "article .pst-scrollable-table-container");

  function fit(formula) {
    formula.dataset.size ??= formula.style.fontSize;  // MathJax's own
    formula.style.fontSize = formula.dataset.size;
    const size = parseFloat(getComputedStyle(formula).fontSize);
    const room = formula.clientWidth, wide = formula.scrollWidth;
    if (room && wide > room + 1)
      formula.style.fontSize = `${size * Math.max(SMALLEST, (room - 2) / wide)}px`;
  }

  // Which ends hide something: the style fades these out.
  function mark(box) {
    const more = box.scrollWidth - box.clientWidth;
    const scrolls = more > 1 && box.clientWidth > 0;
    if (scrolls) {
      const left = box.scrollLeft > 1, right = box.scrollLeft < more - 1;
      box.dataset.more = left && right ? "both" : left ? "left" : "right";
    } else delete box.dataset.more;
    if (scrolls && !box.dataset.named) {
      const [, name] = NAMES.find(([kind]) => box.matches(kind));
      box.dataset.named = box.hasAttribute("tabindex") ? "" : "tabindex";
      box.tabIndex = 0;
      box.setAttribute("role", "group");  // not a landmark: there may be many
      const caption = box.querySelector("caption")?.textContent;
      box.setAttribute("aria-label", `${caption || name}, scrolls sideways`);
      box.addEventListener("scroll", () => mark(box), {passive: true});
    } else if (!scrolls && "named" in box.dataset) {
      for (const name of ["role", "aria-label", box.dataset.named, "data-named"])
        if (name) box.removeAttribute(name);
    }
  }

  function update() {
    document.querySelectorAll("article mjx-container[display]").forEach(fit);
    boxes().forEach(mark);
  }

  let waiting = 0;
  const soon = () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(update); };
  const ready = () => {
    (window.MathJax?.startup?.promise ?? Promise.resolve()).then(update);
    new ResizeObserver(soon).observe(document.querySelector("article") ?? document.body);
    document.addEventListener("toggle", soon, true);  // folds that open
    document.addEventListener("click", soon);
  };
  addEventListener("load", ready);
})();
