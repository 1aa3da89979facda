"use strict";
(() => {
  const by = (id) => document.getElementById(id);
  const points = JSON.parse(by("map-points").textContent);
  const plot = by("map-plot"), picture = by("map-picture"), words = by("map-words"), colours = by("map-colours");
  const [width, height, across] = points.cell, scale = 3;
  const count = points.x.length;
  const touch = matchMedia("(pointer: coarse)").matches;
  let marked = null;

  // Of a visible cluster its partner, of an infrared one those that it is the partner of.
  const together = (row) => {
    const cluster = points.cluster[row], infrared = points.infrared[row];
    if (cluster < 0) return (other) => other === row;
    const partner = infrared ? null : points.partner[cluster];
    return (other) => {
      if (points.infrared[other] === infrared) return points.cluster[other] === cluster;
      return infrared ? points.partner[points.cluster[other]] === cluster : points.cluster[other] === partner;
    };
  };
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const wheel = (number) => `hsl(${Math.round(number * 137.508) % 360} 65% ${number % 2 ? 42 : 58}%)`;
  const people = [...new Set(points.person)];
  const colour = (row) => {
    if (colours.value === "cluster") {
      if (points.cluster[row] < 0) return style("--grid");
      // Partners have one colour.
      const partner = points.infrared[row] ? points.partner.indexOf(points.cluster[row]) : points.cluster[row];
      return wheel(partner < 0 ? points.partner.length + points.cluster[row] : partner);
    }
    if (colours.value === "person") return wheel(people.indexOf(points.person[row]));
    return style(points.infrared[row] ? "--vermillion" : "--blue");
  };
  const rows = [...Array(count).keys()];
  const trace = (infrared) => {
    const own = rows.filter((row) => points.infrared[row] === infrared);
    const faded = marked === null ? () => false : ((chosen) => (row) => !chosen(row))(together(marked));
    return {
      type: "scatter", mode: "markers", name: infrared ? "infrared" : "visible", customdata: own,
      x: own.map((row) => points.x[row]), y: own.map((row) => points.y[row]), hoverinfo: "none",
      marker: {
        symbol: infrared ? "star" : "circle", size: infrared ? 10 : 7, line: {width: 0},
        color: own.map(colour), opacity: own.map((row) => faded(row) ? 0.12 : 0.85),
      },
    };
  };
  const layout = () => ({
    margin: {l: 8, r: 8, t: 8, b: 8}, dragmode: touch ? false : "zoom", hovermode: "closest", showlegend: true,
    uirevision: "one", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: {color: style("--ink")}, legend: {orientation: "h", y: 1.04, x: 0},
    xaxis: {visible: false}, yaxis: {visible: false},
  });
  const draw = () => Plotly.react(plot, [trace(0), trace(1)], layout(), {displayModeBar: false, responsive: true});
  const show = (row) => {
    picture.style.width = `${scale * width}px`;
    picture.style.height = `${scale * height}px`;
    picture.style.backgroundImage = `url(${by("map-sprite").src})`;
    picture.style.backgroundSize = `${scale * width * across}px auto`;
    picture.style.backgroundPosition = `${-scale * width * (row % across)}px ${-scale * height * Math.floor(row / across)}px`;
    const parts = [points.name[row], points.infrared[row] ? "infrared" : "visible"];
    parts.push(points.cluster[row] < 0 ? "in no cluster" : `cluster ${points.cluster[row]}`);
    if (points.person[row] !== null) parts.push(`identity ${points.person[row]}`);
    if (points.camera[row] !== null) parts.push(`camera ${points.camera[row]}`);
    words.textContent = parts.join(", ");
  };
  const zoom = (factor) => {
    const change = {};
    for (const axis of ["xaxis", "yaxis"]) {
      const [low, high] = plot._fullLayout[axis].range, half = (high - low) / 2 * factor, middle = (low + high) / 2;
      change[`${axis}.range`] = [middle - half, middle + half];
    }
    Plotly.relayout(plot, change);
  };
  // The library is read when the map comes near, so that the page opens fast.
  const start = () => {
    const library = document.createElement("script");
    library.textContent = by("map-library").textContent;
    document.head.append(library);
    document.querySelector("#map .interactive").hidden = false;
    document.querySelector("#map .still").classList.add("replaced");
    draw();
    listen();
  };
  const listen = () => {
    plot.on("plotly_hover", (event) => show(event.points[0].customdata));
    plot.on("plotly_click", (event) => {
      const row = event.points[0].customdata;
      show(row);
      marked = marked === row ? null : row;
      draw();
    });
    colours.addEventListener("change", draw);
    by("map-in").addEventListener("click", () => zoom(0.5));
    by("map-out").addEventListener("click", () => zoom(2));
    by("map-reset").addEventListener("click", () => {
      marked = null;
      draw();
      Plotly.relayout(plot, {"xaxis.autorange": true, "yaxis.autorange": true});
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  };
  new IntersectionObserver((seen, watcher) => {
    if (!seen.some((one) => one.isIntersecting)) return;
    watcher.disconnect();
    start();
  }, {rootMargin: "300px"}).observe(by("map"));
})();
