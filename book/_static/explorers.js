// Puts live figures in the place of their pictures (book/_ext/explorers.py). Without scripts, and in print, the pictures stay.
for (const [label, specification] of Object.entries(window.explorers)) {
  const figure = document.getElementById(label);
  const picture = figure.querySelector("img");
  const place = document.createElement("div");
  place.className = "explorer";
  picture.after(place);
  // Parts of a figure that stand below one another cannot find out how wide they may be: room for the labels is left.
  const width = Math.max(200, figure.clientWidth - 110);
  for (const part of specification.vconcat) part.width = width;
  // Errors only (1): the bundled Vega is newer than the one that Vega-Lite 5 was made for, and would say so.
  vegaEmbed(place, specification, { actions: false, renderer: "svg", logLevel: 1 })
    .then(() => figure.classList.add("live"))
    .catch((error) => {
      place.remove();
      console.error(label, error);
    });
}
