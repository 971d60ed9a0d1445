// Draws the pictures of a result from the numbers that stand beside them, and sorts tables.
(function () {
  "use strict";

  function dataOf(part) {
    var found = part.closest(".cp-block").querySelector('script[type="application/json"]');
    return found && JSON.parse(found.textContent);
  }

  function colour(name) {
    return getComputedStyle(document.querySelector(".cp")).getPropertyValue(name).trim();
  }

  // --- charts

  function draw(canvas) {
    var plot = dataOf(canvas);
    var old = Chart.getChart(canvas);
    if (old) old.destroy();
    var usual = ["--cp-blue", "--cp-amber", "--cp-green", "--cp-red", "--cp-strong", "--cp-text"];
    var colours = (plot.colours.length ? plot.colours : usual).map(colour);
    var quiet = colour("--cp-quiet"), line = colour("--cp-line");
    function axis(text, isAcross) {
      var isNamed = isAcross && plot.labels.length > 0;
      var made = { type: isNamed ? "category" : "linear", title: { display: true, text: text, color: quiet }, ticks: { color: quiet }, grid: { color: line } };
      if (isNamed) made.labels = plot.labels;
      made.stacked = plot.stacked;
      if (!isAcross && plot.bars) made.beginAtZero = true;
      if (plot.unit) { made.min = 0; made.max = 1; }
      return made;
    }
    new Chart(canvas, {
      type: plot.bars ? "bar" : "line",
      data: {
        datasets: plot.curves.map(function (curve, i) {
          var shade = curve.dashed ? quiet : colours[i % colours.length];
          return {
            label: curve.name,
            data: curve.points.map(function (point) { return { x: point[0], y: point[1] }; }),
            borderColor: shade, backgroundColor: shade, borderWidth: curve.dashed ? 1 : 2,
            borderDash: curve.dashed ? [5, 4] : [], pointRadius: curve.dashed ? 0 : 2, tension: 0, maxBarThickness: 24
          };
        })
      },
      options: {
        animation: false, maintainAspectRatio: false, parsing: false,
        interaction: { mode: "nearest", intersect: false },
        plugins: { legend: { display: plot.curves.length > 1, labels: { color: quiet, boxWidth: 18, boxHeight: 2 } } },
        scales: { x: axis(plot.across, true), y: axis(plot.up, false) }
      }
    });
  }

  // --- the confusion matrix at a threshold

  function ratio(part, whole) {
    return whole ? (part / whole).toFixed(3) : "-";
  }

  function choose(box) {
    var range = box.querySelector("input"), row = dataOf(box)[range.value];
    var text = row[0].toLocaleString("en", { maximumSignificantDigits: 6 });
    box.querySelector("output").textContent = text;
    range.setAttribute("aria-valuetext", text);
    box.querySelectorAll("[data-cell]").forEach(function (cell) {
      cell.textContent = row[cell.dataset.cell].toLocaleString("en");
    });
    var hits = row[1], alarms = row[2], missed = row[3], rest = row[4];
    var rates = [
      ratio(hits, hits + alarms), ratio(hits, hits + missed), ratio(2 * hits, 2 * hits + alarms + missed),
      ratio(hits + rest, hits + alarms + missed + rest), ratio(alarms, alarms + rest)
    ];
    box.querySelectorAll("[data-rate]").forEach(function (cell) { cell.textContent = rates[cell.dataset.rate]; });
  }

  // --- sorting

  function sort(button) {
    var head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    var at = Array.prototype.indexOf.call(head.parentNode.children, head);
    var down = head.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th").forEach(function (other) { other.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    var isNumber = head.classList.contains("cp-number");
    function value(row) {
      var found = row.children[at].dataset.value;
      return isNumber ? (found === "None" ? NaN : Number(found)) : found;
    }
    Array.prototype.slice.call(body.rows).sort(function (one, two) {
      var a = value(one), b = value(two);
      if (isNumber && (isNaN(a) || isNaN(b))) return isNaN(a) - isNaN(b); // what is none stays last
      var order = isNumber ? a - b : a.localeCompare(b, undefined, { numeric: true });
      return down ? -order : order;
    }).forEach(function (row) { body.appendChild(row); });
  }

  function show() {
    document.querySelectorAll("canvas[data-plot]").forEach(draw);
  }

  document.addEventListener("click", function (event) {
    var button = event.target.closest && event.target.closest("[data-sort]");
    if (button) sort(button);
  });
  document.addEventListener("input", function (event) {
    var box = event.target.closest && event.target.closest("[data-confusion]");
    if (box) choose(box);
  });
  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("cp:shown", show);
  // unfold changes the class when somebody chooses another scheme
  new MutationObserver(show).observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
})();
