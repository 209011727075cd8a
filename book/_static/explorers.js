// Puts live figures in the place of their pictures (book/_ext/explorers.py), when they come near the window: until then
// nothing of them is loaded. Without scripts, and in print, the pictures stay.
(() => {
  const here = document.currentScript;
  const chapter = here.dataset.chapter;
  const beside = (name) => new URL(name, here.src).href;
  const load = (name) =>
    new Promise((resolve, reject) => {
      const script = document.createElement("script");
      Object.assign(script, { src: beside(name), onload: resolve, onerror: reject });
      document.head.append(script);
    });
  let loaded;
  const show = async (figure) => {
    loaded ??= Promise.all([load("vega/vega.js"), load(`explorers/${chapter}.js`)]);
    await loaded;
    const specification = window.explorers[figure.id];
    const place = document.createElement("div");
    place.className = "explorer";
    figure.querySelector("img").after(place);
    // Parts of a figure that stand below one another cannot find out how wide they may be: room for the labels is left.
    const width = Math.max(200, figure.clientWidth - 110);
    for (const part of specification.vconcat) part.width = width;
    try {
      // Errors only (1): the bundled Vega is newer than the one that Vega-Lite 5 was made for, and would say so.
      await vegaEmbed(place, specification, { actions: false, renderer: "svg", logLevel: 1 });
      figure.classList.add("live");
    } catch (error) {
      place.remove();
      console.error(figure.id, error);
    }
  };
  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((one) => one.isIntersecting)) {
        watch.unobserve(entry.target);
        show(entry.target);
      }
    },
    { rootMargin: "600px" },
  );
  for (const label of here.dataset.figures.split(" ")) watch.observe(document.getElementById(label));
})();
