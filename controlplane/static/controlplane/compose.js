// The drawing of a pipeline's form as a canvas (AntV X6): tasks are dragged onto it, and nodes are connected. What it
// changes are the form's rows, which are what is saved; where nodes are, and what follows from the data, the server says.
(function () {
  "use strict";

  const WIDTH = 190, HEIGHT = 54, MOST_SHOWN = 30, PAUSE = 200;
  const panel = document.querySelector(".cp-compose");
  if (panel && window.X6) window.addEventListener("load", start);

  function start() {
    const input = document.querySelector("textarea[name=nodes], input[name=nodes]");
    const form = input && window.reactJsonForm.getFormInstance(`${input.id}_jsonform`);
    if (!form) return;
    panel.querySelector(".cp-compose-parts").hidden = false;
    panel.querySelector(".cp-compose-still").remove();
    const canvas = panel.querySelector(".cp-compose-canvas"), graph = makeGraph(canvas);
    // Where a node was dropped or dragged to, by its name
    const moved = new Map();
    let asked = 0, timer = 0, isHeld = false, isLate = false, drawn = [];

    canvas.addEventListener("mousedown", () => { isHeld = true; }, true);
    window.addEventListener("mouseup", () => setTimeout(() => {
      isHeld = false;
      if (isLate) { isLate = false; draw(); }
    }), true);

    const rows = () => form.getData().map(row => ({ ...row }));
    const afterOf = row => (row.after || "").split(/[\s,]+/).filter(Boolean);

    function change(edit) {
      const now = rows().filter(row => row.name || row.task);
      form.update({ data: edit(now) || now });
    }

    function add(task, place) {
      const taken = new Set(rows().map(row => row.name)), stem = stemOf(task);
      let name = stem;
      for (let number = 2; taken.has(name); number++) name = `${stem.slice(0, 28)}_${number}`;
      if (place) moved.set(name, place);
      change(now => { now.push({ name, task, after: "" }); });
    }

    function remove(name) {
      change(now => now.filter(row => row.name !== name).map(row => withoutAfter(row, name)));
    }

    function withoutAfter(row, name) {
      return { ...row, after: afterOf(row).filter(other => other !== name).join(", ") };
    }

    function connect(earlier, later) {
      change(now => now.map(row => row.name === later && !afterOf(row).includes(earlier)
        ? { ...row, after: [...afterOf(row), earlier].join(", ") } : row));
    }

    function cut(earlier, later) {
      change(now => now.map(row => row.name === later ? withoutAfter(row, earlier) : row));
    }

    // A node that gets another name in its row keeps its place, and those that come after it still do.
    function follow() {
      const now = rows(), renamed = now.length === drawn.length
        ? now.map((row, index) => [drawn[index].name, row.name]).filter(([old, name]) => old !== name) : [];
      drawn = now;
      if (renamed.length !== 1) return;
      const [[old, name]] = renamed;
      if (!old || !name || now.some(row => row.name === old)) return;
      if (moved.has(old)) moved.set(name, moved.get(old));
      if (!now.some(row => afterOf(row).includes(old))) return;
      drawn = now.map(row => ({ ...row, after: afterOf(row).map(other => other === old ? name : other).join(", ") }));
      form.update({ data: drawn });
    }

    async function draw() {
      follow();
      const number = ++asked;
      const body = new FormData();
      body.append("nodes", JSON.stringify(rows()));
      body.append("csrfmiddlewaretoken", document.querySelector("[name=csrfmiddlewaretoken]").value);
      const found = await fetch(panel.dataset.draw, { method: "POST", body })
        .then(answer => answer.ok && !answer.redirected ? answer.json() : null).catch(() => null);
      if (number !== asked) return;  // rows have changed meanwhile: another answer comes
      panel.querySelector(".cp-compose-failed").hidden = Boolean(found);
      if (!found) return;
      // What is being dragged is not taken out of somebody's hand
      if (isHeld) { isLate = true; return; }
      show(graph, found, moved, cut, remove);
      fit(graph, canvas.parentNode);
      list(panel.querySelector(".cp-compose-problems ul"), found.problems);
      list(panel.querySelector(".cp-compose-notes"), found.notes);
    }

    form.addEventListener("change", () => { clearTimeout(timer); timer = setTimeout(draw, PAUSE); });
    graph.on("node:moved", ({ node }) => moved.set(nameOf(node.id), node.position()));
    graph.on("edge:connected", ({ edge }) => {
      const [earlier, later] = [edge.getSourceCellId(), edge.getTargetCellId()].map(id => id && nameOf(id));
      edge.remove();  // the server's answer draws it
      if (earlier && later && earlier !== later) connect(earlier, later);
    });
    graph.on("node:dblclick", ({ node }) => {
      const row = [...document.querySelectorAll(".rjf-form-row input")].find(field => field.value === nameOf(node.id));
      if (row) row.focus();
    });
    offer(form.getSchema().items.properties.task.choices, add, canvas, graph);
    draw();
  }

  // X6 keeps cells in a plain object, in which a node must not be called "constructor".
  function idOf(name) { return `node ${name}`; }
  function nameOf(id) { return id.slice(5); }

  function makeGraph(container) {
    return new X6.Graph({
      container, autoResize: container.parentNode, panning: true, mousewheel: { enabled: true, modifiers: ["ctrl", "meta"] },
      scaling: { min: 0.35, max: 1.5 },
      interacting: { edgeMovable: false, arrowheadMovable: false, vertexMovable: false },
      connecting: {
        allowBlank: false, allowLoop: false, allowEdge: false, highlight: true,
        validateMagnet: ({ magnet }) => magnet.getAttribute("port-group") === "out",
        validateConnection: ({ targetCell, sourceCell }) => Boolean(targetCell && targetCell !== sourceCell),
        createEdge: () => new X6.Shape.Edge(lineOf({ own: true })),
      },
    });
  }

  function lineOf({ own }) {
    return {
      connector: { name: "smooth", args: { direction: "H" } },
      attrs: { line: { class: own ? "cp-compose-line cp-compose-own" : "cp-compose-line", targetMarker: { name: "classic", size: 7 } } },
    };
  }

  function show(graph, found, moved, cut, remove) {
    const cells = [];
    for (const [name, node] of Object.entries(found.nodes)) {
      const place = moved.get(name) || node;
      const port = group => ({ id: group, group });
      cells.push(graph.createNode({
        id: idOf(name), x: place.x, y: place.y, width: WIDTH, height: HEIGHT,
        markup: [
          { tagName: "rect", selector: "body" }, { tagName: "title", selector: "title" },
          { tagName: "text", selector: "name" }, { tagName: "text", selector: "task" },
        ],
        attrs: {
          // not in the middle, as X6 has it
          text: { refX: 0, refY: 0, textAnchor: "start", textVerticalAnchor: "bottom" },
          body: { refWidth: "100%", refHeight: "100%", rx: 8, class: node.wrong ? "cp-compose-box cp-compose-wrong" : "cp-compose-box" },
          title: { text: `${name}: ${node.task}` },
          name: { text: shortened(name, 22), x: 12, y: 22, class: "cp-compose-name" },
          task: { text: shortened(node.task, 26), x: 12, y: 41, class: "cp-compose-task" },
        },
        ports: {
          groups: Object.fromEntries([["in", "left"], ["out", "right"]].map(([group, position]) => [group, {
            position, attrs: { circle: { r: 6, magnet: group === "out", class: `cp-compose-port cp-compose-${group}` } },
          }])),
          items: [port("in"), port("out")],
        },
        tools: [{ name: "button-remove", args: { x: WIDTH - 12, y: 12, onClick: () => remove(name) } }],
      }));
    }
    for (const line of found.lines) {
      const tools = line.own ? [{ name: "button-remove", args: { distance: "50%", onClick: () => cut(line.from, line.to) } }] : [];
      cells.push(graph.createEdge({
        ...lineOf(line), source: { cell: idOf(line.from), port: "out" }, target: { cell: idOf(line.to), port: "in" },
        data: line, tools,
      }));
    }
    graph.resetCells(cells);
  }

  // As high as what it shows, and smaller where that is too wide; what still does not fit is reached by dragging.
  function fit(graph, frame) {
    const { right, bottom } = graph.getContentBBox();
    const height = Math.min(560, Math.max(260, bottom + 40));
    frame.style.height = `${height}px`;
    graph.resize(frame.clientWidth, height);
    if (right + 16 > frame.clientWidth || bottom + 16 > height) graph.zoomToFit({ padding: 16, maxScale: 1, minScale: 0.35 });
    else graph.scale(1).translate(0, 0);
  }

  // What can be dragged, or added by a click: the tasks of the rows' own choice.
  function offer(choices, add, canvas, graph) {
    const names = choices.map(choice => choice.value === undefined ? choice : choice.value);
    const find = panel.querySelector("#compose-find"), found = panel.querySelector(".cp-compose-tasks ul");
    function refresh() {
      const wanted = find.value.trim().toLowerCase();
      const shown = names.filter(name => name.toLowerCase().includes(wanted)).slice(0, MOST_SHOWN);
      list(found, shown.length ? shown.map(button) : [panel.dataset.none]);
    }
    function button(name) {
      const made = document.createElement("button");
      Object.assign(made, { type: "button", textContent: name, title: panel.dataset.add, draggable: true });
      made.addEventListener("click", () => add(name));
      made.addEventListener("dragstart", event => event.dataTransfer.setData("text/x-task", name));
      return made;
    }
    find.addEventListener("input", refresh);
    // Enter would save the form elsewhere; here it adds the first that was found
    find.addEventListener("keydown", event => {
      if (event.key === "Enter") { event.preventDefault(); found.querySelector("button")?.click(); }
    });
    canvas.addEventListener("dragover", event => {
      if (event.dataTransfer.types.includes("text/x-task")) event.preventDefault();
    });
    canvas.addEventListener("drop", event => {
      const name = event.dataTransfer.getData("text/x-task");
      if (!name) return;
      event.preventDefault();
      const at = graph.clientToLocal(event.clientX, event.clientY);
      add(name, { x: Math.round(at.x - WIDTH / 2), y: Math.round(at.y - HEIGHT / 2) });
    });
    refresh();
  }

  function list(parent, entries) {
    parent.replaceChildren(...entries.map(entry => {
      const item = document.createElement("li");
      item.append(entry);
      return item;
    }));
  }

  // A name that the server takes for a node.
  function stemOf(task) {
    return task.normalize("NFKD").replace(/[^A-Za-z0-9]+/g, "_").replace(/^_+|_+$/g, "").slice(0, 32).toLowerCase() || "node";
  }

  function shortened(text, most) {
    return text.length > most ? `${text.slice(0, most - 1)}…` : text;
  }
})();
