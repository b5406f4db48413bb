// Checks of a report page; each returns a list of problems. Runs in the page.
"use strict";
window.ofb = (() => {
  const name = (element) => {
    const title = element.querySelector?.(":scope > title");
    const words = title ? title.textContent : element.alt || element.textContent || "";
    return `<${element.tagName.toLowerCase()}> "${words.trim().slice(0, 40)}"`;
  };
  const closed = (element) => element.closest("details:not([open])") && !element.closest("summary");

  function boxes() {
    const problems = [];
    for (const svg of document.querySelectorAll("svg")) {
      const box = svg.getBoundingClientRect();
      if (!closed(svg) && !(box.width > 0 && box.height > 0)) problems.push(`${name(svg)} has no size`);
      if (svg.getAttribute("role") === "img" && !svg.querySelector(":scope > title + desc")) {
        problems.push(`${name(svg)} has no title and description`);
      }
    }
    for (const image of document.images) {
      if (!image.complete || !image.naturalWidth) problems.push(`${name(image)} is no picture`);
      if (!image.alt) problems.push("a picture without alt text");
    }
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth > clientWidth) problems.push(`the page is ${scrollWidth} wide in a window of ${clientWidth}`);
    return problems;
  }

  const numbers = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
  function brightness([red, green, blue]) {
    const linear = [red, green, blue].map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  }
  function backgroundOf(element) {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  }
  // Contrast of text, at least 4.5 to 1 (WCAG AA), and its size, at least 10 px.
  function contrast() {
    const problems = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      if (!node.textContent.trim() || element.closest("script, style, title, desc") || closed(element)) continue;
      const style = getComputedStyle(element);
      const colour = numbers(element.closest("svg") ? style.fill : style.color);
      const [dark, light] = [brightness(colour), brightness(backgroundOf(element))].sort((a, b) => a - b);
      const ratio = (light + 0.05) / (dark + 0.05);
      if (ratio < 4.5) problems.push(`${name(element)} has a contrast of ${ratio.toFixed(1)}`);
      if (parseFloat(style.fontSize) < 10) problems.push(`${name(element)} is only ${style.fontSize} high`);
    }
    return [...new Set(problems)];
  }

  // Boxes of all pictures, and the colours each must contain.
  function regions() {
    return [...document.querySelectorAll("svg[role=img], img")].filter((it) => !closed(it)).map((it) => {
      const box = it.getBoundingClientRect();
      const drawn = [...it.querySelectorAll("path[data-name], rect.kept, .area")].filter((part) => {
        const { width, height } = part.getBoundingClientRect();
        return part.classList.contains("curve") ? part.getAttribute("d") : width >= 2 && height >= 2;
      });
      const colour = (part) => {
        const style = getComputedStyle(part);
        return part.classList.contains("curve") ? style.stroke : style.fill;
      };
      const faint = drawn.some((part) => getComputedStyle(part).opacity < 1);
      const colours = faint ? [] : [...new Set(drawn.map(colour))].map(numbers);
      return { name: name(it), x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height, colours };
    });
  }

  // Checks the regions on a screenshot of the whole page.
  async function seen(png, regions) {
    const image = new Image();
    image.src = "data:image/png;base64," + png;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const problems = [];
    for (const { name, x, y, width, height, colours } of regions) {
      // On a narrow window a wide drawing is scrolled: only its visible part is checked.
      const right = Math.min(x + width, image.width);
      if (right - x < 1) continue;
      const { data } = context.getImageData(x, y, Math.max(1, right - x), Math.max(1, height));
      const pixels = new Uint32Array(data.buffer);
      if (pixels.every((pixel) => pixel === pixels[0])) {
        problems.push(`${name} is of one colour`);
        continue;
      }
      for (const [red, green, blue] of colours) {
        // A colour "none" is never found.
        let found = false;
        for (let at = 0; at < data.length && !found; at += 4) {
          const far = Math.abs(data[at] - red) + Math.abs(data[at + 1] - green) + Math.abs(data[at + 2] - blue);
          found = far < 60;
        }
        if (!found) problems.push(`${name} shows nothing of the colour ${red}, ${green}, ${blue}`);
      }
    }
    return problems;
  }

  // Moves a pointer over the first chart: the values must appear and disappear.
  function readOut() {
    const charts = [...document.querySelectorAll("svg[data-domain]")];
    const chart = charts.find((it) => it.querySelector("path[data-name]")?.getAttribute("d"));
    if (!chart) return [];
    const box = chart.getBoundingClientRect();
    const at = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, bubbles: true };
    chart.dispatchEvent(new PointerEvent("pointermove", at));
    const words = document.querySelector(".readout-text")?.textContent ?? "";
    chart.parentElement.dispatchEvent(new PointerEvent("pointerleave", at));
    const gone = !document.querySelector(".readout-text");
    return /^step \d/.test(words) && gone ? [] : [`${name(chart)} reads out "${words}"`];
  }

  return { boxes, contrast, regions, seen, readOut };
})();
