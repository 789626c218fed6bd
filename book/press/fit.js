// What is wider than the page is made smaller, once all fonts are there. Laying out anew after the
// fonts have come also redraws braces, which Chromium may have stretched for another font.
(async () => {
  await Promise.all([...document.fonts].map(font => font.load().catch(() => null)));
  await document.fonts.ready;
  document.body.style.display = "none";
  void document.body.offsetHeight;
  document.body.style.display = "";
  for (const box of document.querySelectorAll("div.math, table, pre, svg.too-wide")) {
    const room = box.parentElement.clientWidth, needs = box.scrollWidth;
    if (needs > room + 1) {
      const size = parseFloat(getComputedStyle(box).fontSize);
      box.style.fontSize = `${Math.max(0.55, (room / needs) * 0.985) * size}px`;
    }
  }
})();
