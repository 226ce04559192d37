"use strict";
// Draws the curves of each timeline with uPlot, and lets its video follow clicks on curves, bands and tables.
(() => {
  const dashes = [[], [10, 4], [3, 3], [12, 4, 3, 4], [18, 5], [6, 6], [2, 5], [14, 3, 3, 3, 3, 3]];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const percent = (value) => (value == null ? "–" : `${(100 * value).toFixed(1)}%`);
  // Seconds between ticks: what the clock shows exactly.
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
  const plots = new Set();

  function clock(seconds) {
    if (seconds == null) return "–";
    const tenths = Math.round(seconds * 10);
    const two = (value) => String(value).padStart(2, "0");
    const whole = Math.floor(tenths / 10);
    return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}.${tenths % 10}`;
  }

  // On the axis: without hours where there are none, without tenths where there are none.
  const tick = (seconds) => clock(seconds).slice(seconds < 3600 ? 2 : 0).replace(/\.0$/, "");

  function plot(section, data, seek) {
    const chart = section.querySelector(".chart");
    const bands = section.querySelector(".bands");
    const size = () => ({width: Math.max(chart.clientWidth, 100), height: 240});
    const align = (drawn) => {
      bands.style.setProperty("--left", `${drawn.over.offsetLeft}px`);
      bands.style.setProperty("--right", `${Math.max(chart.clientWidth - drawn.over.offsetLeft - drawn.over.offsetWidth, 0)}px`);
    };
    const axis = {stroke: () => colour("--ink"), grid: {stroke: () => colour("--line")}, ticks: {stroke: () => colour("--line")}};
    const series = data.labels.map((label, place) => ({
      label,
      stroke: () => colour(`--curve-${place}`),
      dash: dashes[place],
      width: 2,
      value: (_, value) => percent(value),
      points: {show: data.times.length === 1},
    }));
    const options = {
      ...size(),
      scales: {x: {time: false, range: () => [0, data.end]}, y: {range: () => [0, 1]}},
      series: [{label: "time", value: (_, value) => clock(value)}, ...series],
      axes: [
        {...axis, values: (_, ticks) => ticks.map(tick), space: 70, incrs: steps},
        {...axis, values: (_, ticks) => ticks.map((value) => `${Math.round(100 * value)}%`), size: 52},
      ],
      cursor: {y: false, drag: {x: false, y: false}, points: {size: 7}},
      legend: {mount: (_, legend) => section.querySelector(".legend").append(legend)},
      hooks: {ready: [align], setSize: [align]},
    };
    const drawn = new uPlot(options, [data.times, ...data.values], chart);
    drawn.over.addEventListener("click", (event) => {
      seek(drawn.posToVal(event.clientX - drawn.over.getBoundingClientRect().left, "x"));
    });
    new ResizeObserver(() => {
      if (chart.clientWidth && chart.clientWidth !== drawn.width) drawn.setSize(size());
    }).observe(chart);
    plots.add(drawn);
    return drawn;
  }

  function start(section) {
    const data = JSON.parse(section.querySelector("script.curves").textContent);
    const video = section.querySelector("video");
    // When its first frame is shown, from which all times count.
    const begin = Number(video?.dataset.startS ?? 0);
    const now = section.querySelector(".now");
    const bands = [...section.querySelectorAll(".band")];
    const drawn = plot(section, data, seek);

    function show(seconds) {
      drawn.setCursor({left: drawn.valToPos(seconds, "x"), top: drawn.over.clientHeight / 2}, false);
      const happening = [];
      for (const band of bands) {
        if (Number(band.dataset.start) <= seconds && seconds < Number(band.dataset.end)) {
          happening.push(band.textContent);
          band.setAttribute("aria-current", "time");
        } else {
          band.removeAttribute("aria-current");
        }
      }
      now.textContent = `${clock(seconds)} ${happening.join(", ")}`;
    }

    function seek(seconds) {
      const time = Math.min(Math.max(seconds, 0), data.end);
      if (video) {
        video.currentTime = begin + time;
        video.scrollIntoView({block: "nearest"});
      }
      show(time);
    }

    section.addEventListener("click", (event) => {
      const moment = event.target.closest("[data-start]");
      if (!moment || event.ctrlKey || event.metaKey || event.shiftKey) return;
      if (video || !moment.hasAttribute("href")) {
        event.preventDefault();
        seek(Number(moment.dataset.start));
      }
    });
    // One band is reached by the tab key, the others from there by arrows.
    bands.forEach((band, place) => {
      band.tabIndex = place ? -1 : 0;
    });
    section.querySelector(".bands").addEventListener("keydown", (event) => {
      const place = bands.indexOf(event.target);
      if (place < 0) return;
      const next = {ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: bands.length - 1}[event.key];
      if (bands[next]) {
        event.preventDefault();
        bands[place].tabIndex = -1;
        bands[next].tabIndex = 0;
        bands[next].focus();
      }
    });
    section.addEventListener("keydown", (event) => {
      // A link answers the enter key by a click; what is no link, as there is no video to lead to, does not.
      const moment = event.target.closest("[data-start]:not([href])");
      if (moment && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        seek(Number(moment.dataset.start));
      }
    });
    if (video) {
      video.addEventListener("timeupdate", () => show(Math.max(video.currentTime - begin, 0)));
      const complain = () => {
        section.querySelector(".unplayable").hidden = false;
        video.hidden = true;
      };
      if (video.error || video.networkState === HTMLMediaElement.NETWORK_NO_SOURCE) complain();
      else video.addEventListener("error", complain);
      if (video.preload === "none") video.preload = "metadata";
    }
  }

  for (const section of document.querySelectorAll(".timeline")) {
    const row = section.parentElement.closest("details");
    if (row && !row.open) row.addEventListener("toggle", () => start(section), {once: true});
    else start(section);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach((drawn) => drawn.redraw(false)));
})();
