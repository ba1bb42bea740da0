"use strict";
// What a page does beyond what it shows: grids of other steps, wipes, images enlarged, values under the pointer.
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  document.documentElement.classList.add("scripted");

  // The grid of another step, in every place where one is shown.
  const data = one("#grids"), step = one("#step"), style = one("#sheet");
  if (data && step) {
    const grids = JSON.parse(data.textContent), last = style.textContent;
    const show = async () => {
      const grid = grids[step.value];
      one("#at").value = `step ${grid.step}`;
      step.setAttribute("aria-valuetext", `step ${grid.step}`);
      if (grid.uri) {
        const image = new Image();
        image.src = grid.uri;
        await image.decode().catch(() => {}); // until then the one before stays: nothing flickers
      }
      if (grids[step.value] === grid) style.textContent = grid.uri ? `.sheet { background-image: url("${grid.uri}") }` : last;
    };
    step.addEventListener("input", show);
  }

  // Input and translation over each other.
  const wipe = one("#wipe");
  wipe?.addEventListener("input", () => wipe.closest(".images").style.setProperty("--wipe", `${wipe.value}%`));

  // An image enlarged, with those beside it.
  const dialog = one("#zoom"), big = one(".big", dialog), edge = one("input", dialog);
  let shown = null;
  const enlarge = (button) => {
    shown = button;
    const around = button.closest(".images");
    big.style.cssText = around?.style.cssText ?? "";
    big.classList.toggle("pixelated", Boolean(around?.classList.contains("pixelated")));
    big.replaceChildren(...[...button.children].map((child) => child.cloneNode(true)));
    one(".caption", dialog).textContent = button.dataset.caption;
    edge.hidden = !one(".over", big);
    edge.value = parseFloat(big.style.getPropertyValue("--wipe")) || 50;
    if (!dialog.open) dialog.showModal();
  };
  const turn = (by) => {
    const beside = all(".zoom", shown.closest(".beside"));
    enlarge(beside[(beside.indexOf(shown) + by + beside.length) % beside.length]);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".zoom");
    if (button) enlarge(button);
  });
  edge.addEventListener("input", () => big.style.setProperty("--wipe", `${edge.value}%`));
  one(".before", dialog).addEventListener("click", () => turn(-1));
  one(".next", dialog).addEventListener("click", () => turn(1));
  one(".close", dialog).addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => shown?.focus());
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && event.target !== edge) turn(by);
  });

  // The values of a chart at a step: under the pointer, or by the slider below it.
  for (const chart of all(".chart")) {
    const { steps, last, values } = JSON.parse(one("script", chart).textContent);
    const plot = one(".plot", chart), cross = one(".cross", chart), at = one("input[type=range]", chart);
    const outputs = all(".legend output", chart);
    const show = (place) => {
      at.value = place;
      at.setAttribute("aria-valuetext", `step ${steps[place]}`);
      one(".at", chart).value = steps[place];
      outputs.forEach((output, curve) => (output.value = values[curve][place]));
      cross.hidden = false;
      cross.style.left = `${(100 * steps[place]) / (last || 1)}%`;
    };
    at.addEventListener("input", () => show(Number(at.value)));
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect(), wanted = ((event.clientX - box.left) / box.width) * last;
      show(steps.reduce((best, each, place) => (Math.abs(each - wanted) < Math.abs(steps[best] - wanted) ? place : best), 0));
    });
    plot.addEventListener("pointerleave", () => {
      show(steps.length - 1);
      cross.hidden = true;
    });
  }

  // The page anew while a training goes on; not from under someone who looks at something in it.
  const follow = one("#follow");
  let touched = 0;
  for (const kind of ["pointerdown", "keydown", "wheel", "input"]) addEventListener(kind, () => (touched = Date.now()), { passive: true });
  const busy = () => dialog.open || document.hidden || (step && step.value !== step.max) || Date.now() - touched < 10000;
  if (follow) setInterval(() => follow.checked && !busy() && location.reload(), 1000 * follow.dataset.seconds);
})();
