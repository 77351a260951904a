// Draws the impact of a CI once its part of the page is there. The library comes only then; the table needs neither.
(() => {
  "use strict";
  const STEP = 230;
  const ROW = 34;
  const ROWS = 40; // per column; more begin another one of the same distance
  let loading;

  function library(address) {
    loading ??= new Promise((ready, failed) => {
      // The library would add a style element, which the policy forbids; it adds none where it finds one. Ours is in portal.css.
      const stand = document.createElement("meta");
      stand.id = "__________cytoscape_stylesheet";
      const script = document.createElement("script");
      script.src = address;
      script.onload = ready;
      script.onerror = (event) => { loading = undefined; failed(event); };
      document.head.append(stand, script);
    });
    return loading;
  }

  // Columns by distance, each sorted by where its neighbours of the column before stand, so that few lines cross.
  function places(nodes, edges) {
    const neighbours = new Map(nodes.map((node) => [node.id, []]));
    edges.forEach(({ source, target }) => {
      neighbours.get(source)?.push(target);
      neighbours.get(target)?.push(source);
    });
    const order = new Map();
    const found = new Map();
    for (const side of [1, -1]) {
      let column = 0;
      const deepest = Math.max(0, ...nodes.map((node) => node.depth * side));
      for (let depth = side === 1 ? 0 : 1; depth <= deepest; depth += 1) {
        const layer = nodes.filter((node) => node.depth === depth * side);
        if (!layer.length) continue; // on a circle a distance may have its CIs on the other side
        const weight = (node) => {
          const known = neighbours.get(node.id).map((id) => order.get(id)).filter((at) => at !== undefined);
          return known.length ? known.reduce((sum, at) => sum + at, 0) / known.length : 0;
        };
        const sorted = layer.map((node) => [weight(node), node]).sort((a, b) => a[0] - b[0] || a[1].id - b[1].id);
        const columns = Math.ceil(sorted.length / ROWS);
        const height = Math.ceil(sorted.length / columns);
        if (depth > 0) column += 1;
        sorted.forEach(([, node], index) => {
          const row = index % height;
          order.set(node.id, row - (height - 1) / 2);
          found.set(node.id, { x: side * (column + Math.floor(index / height)) * STEP, y: (row - (height - 1) / 2) * ROW });
        });
        column += columns - 1;
      }
    }
    return found;
  }

  async function draw(place) {
    const canvas = place.querySelector(".impact-graph");
    try {
      const asked = fetch(place.dataset.source, { headers: { Accept: "application/json" } });
      await library(place.dataset.library);
      const answer = await asked;
      if (!answer.ok) throw new Error(String(answer.status));
      const { nodes, edges } = await answer.json();
      const began = performance.now();
      const at = places(nodes, edges);
      const look = getComputedStyle(canvas);
      const colour = (name) => look.getPropertyValue(name).trim();
      const graph = window.cytoscape({
        container: canvas,
        elements: [
          ...nodes.map((node) => ({ data: { ...node, id: String(node.id), name: node.name.length > 26 ? `${node.name.slice(0, 25)}…` : node.name }, position: at.get(node.id), classes: `tone-${node.tone}` })),
          ...edges.map(({ source, target, kind }) => ({ data: { id: `${source}-${target}-${kind}`, source: String(source), target: String(target) } })),
        ],
        layout: { name: "preset", fit: true, padding: 24 },
        autoungrabify: true,
        userZoomingEnabled: false,
        boxSelectionEnabled: false,
        minZoom: 0.05,
        maxZoom: 2.5,
        textureOnViewport: nodes.length > 300,
        style: [
          { selector: "node", style: { shape: "round-rectangle", width: 180, height: 24, label: "data(name)", color: colour("--tone-neutral-fg"), "background-color": colour("--tone-neutral-bg"), "border-width": 1, "border-color": colour("--tone-neutral-solid"), "font-size": 12, "font-family": look.fontFamily, "text-valign": "center", "min-zoomed-font-size": 5 } },
          ...["amber", "red", "green", "blue", "cyan", "orange", "violet"].map((tone) => ({ selector: `.tone-${tone}`, style: { color: colour(`--tone-${tone}-fg`), "background-color": colour(`--tone-${tone}-bg`), "border-color": colour(`--tone-${tone}-solid`) } })),
          { selector: "node[depth = 0]", style: { "border-width": 4, "font-weight": "bold" } },
          { selector: "edge", style: { width: 1.2, "line-color": colour("--tone-neutral-solid"), "target-arrow-color": colour("--tone-neutral-solid"), "target-arrow-shape": "triangle", "arrow-scale": 0.8, "curve-style": nodes.length > 300 ? "haystack" : "bezier" } },
        ],
      });
      graph.on("tap", "node", (event) => { window.location.assign(event.target.data("page")); });
      graph.on("mouseover mouseout", "node", (event) => canvas.classList.toggle("is-over", event.type === "mouseover"));
      place.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => {
        if (button.dataset.zoom === "fit") return graph.fit(undefined, 24);
        const level = graph.zoom() * (button.dataset.zoom === "in" ? 1.3 : 1 / 1.3);
        return graph.zoom({ level, renderedPosition: { x: canvas.clientWidth / 2, y: canvas.clientHeight / 2 } });
      }));
      graph.ready(() => { canvas.dataset.milliseconds = Math.ceil(performance.now() - began); canvas.dataset.nodes = graph.nodes().length; });
    } catch {
      canvas.hidden = true;
      place.querySelector(".impact-error").hidden = false;
    }
  }

  function begin() {
    document.querySelectorAll(".impact[hidden]").forEach((place) => {
      place.hidden = false;
      draw(place);
    });
  }
  // After the first paint, and again when another depth was asked for.
  document.addEventListener("DOMContentLoaded", () => requestAnimationFrame(() => setTimeout(begin)));
  document.addEventListener("htmx:afterSettle", begin);
})();
