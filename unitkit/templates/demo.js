"use strict";
// The page of `unitkit demo`: a picture is posted, and what the network makes of it is shown.
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, values, ...children) => {
    const made = Object.assign(document.createElement(tag), values);
    made.append(...children);
    return made;
  };
  const { limits, runs } = JSON.parse(one("#demo").textContent);
  const [run, path, size, checkpoint, seed, other, share] = ["run", "path", "size", "checkpoint", "seed", "other", "share"].map((id) => one(`#${id}`));
  const chosen = { first: null, second: null }; // blobs
  const current = () => runs[run.value];
  const options = (select, pairs) => {
    const before = select.value;
    select.replaceChildren(...pairs.map(([value, text]) => make("option", { value, textContent: text })));
    if (pairs.some(([value]) => value === before)) select.value = before;
  };

  // What the server is asked for. While it computes, only the last of further wishes is kept.
  const asking = (ask) => {
    let busy = false, again = false;
    return async () => {
      again = true;
      if (busy) return;
      busy = true;
      while (again) {
        again = false;
        await ask();
      }
      busy = false;
    };
  };
  const post = async (where, values, body) => {
    const query = new URLSearchParams({ run: run.value, path: path.value, size: size.value, ...values });
    if (current().steps.length) query.set("step", current().steps[checkpoint.value]);
    let answer, found;
    try {
      answer = await fetch(`/${where}?${query}`, { method: "POST", body, headers: { "content-type": "application/octet-stream" } });
      found = await answer.json();
    } catch {
      throw new Error("the server does not answer: is it still running?");
    }
    if (answer.ok) return found;
    if (answer.status === 410) await refresh();
    throw new Error(found.error);
  };
  const refresh = async () => {
    const found = await (await fetch("/runs")).json();
    found.forEach((each, place) => Object.assign(runs[place], { steps: each.steps }));
    showSteps(current().steps.length - 1);
  };

  const showSteps = (place) => {
    const { steps } = current();
    one("#checkpoints").hidden = steps.length < 2;
    checkpoint.max = Math.max(steps.length - 1, 0);
    checkpoint.value = place;
    showStep();
  };
  const showStep = () => {
    const { steps } = current();
    const text = steps.length ? `step ${steps[checkpoint.value]}, ${Number(checkpoint.value) + 1} of ${steps.length}` : "";
    one("#at-step").value = text;
    checkpoint.setAttribute("aria-valuetext", text);
  };
  const figure = (image) =>
    make("figure", {}, zoomed(image.name, image.path, make("img", { src: image.uri, alt: image.name })), make("figcaption", {}, `${image.name}, `, make("code", { textContent: image.path })));
  const zoomed = (name, of, ...images) => {
    const button = make("button", { type: "button", className: "zoom" }, ...images);
    button.dataset.caption = `${name}, ${of}`;
    return button;
  };
  const fit = (section, [height, width]) => {
    section.style.setProperty("--ratio", (width / height).toFixed(4));
    section.classList.toggle("pixelated", Math.max(height, width) < 96);
  };

  const translate = asking(async () => {
    if (!chosen.first) return;
    const shown = one(".shown"), began = performance.now();
    shown.classList.add("busy");
    try {
      const found = await post("translate", seed.value && { seed: seed.value }, chosen.first);
      const [input, translation] = found.images, [height, width] = found.size, [h, w] = found.given;
      fit(shown, found.size);
      one("#way").replaceChildren(`${translation.name}, `, make("code", { textContent: translation.path }));
      one("#status").textContent = `Translated at ${width}x${height} pixels${h === height && w === width ? "" : ` (the picture has ${w}x${h})`}, in ${((performance.now() - began) / 1000).toFixed(2)} s.`;
      one("#wiped").replaceChildren(
        zoomed(translation.name, `${translation.path}, its input to the left`, make("img", { src: input.uri, alt: input.name }), make("img", { src: translation.uri, alt: translation.name, className: "over" })),
      );
      one("#panels").replaceChildren(...found.images.map(figure));
      one("#wiping").hidden = false;
      one("#error").textContent = "";
    } catch (error) {
      one("#error").textContent = error.message;
    }
    shown.classList.remove("busy");
  });

  // Between two codes.
  let timer = 0, rows = [];
  const frame = () => rows.forEach((row) => (row.image.src = row.frames[share.value]));
  const walk = asking(async () => {
    const codes = current().walk === "codes";
    if (!chosen.first || (codes && !chosen.second)) {
      one("#walk-error").textContent = "Choose two pictures first.";
      return;
    }
    const section = one("#walk");
    section.classList.add("busy");
    clearInterval(timer);
    try {
      const parts = chosen.second ? [chosen.first, chosen.second] : [chosen.first];
      const found = await post("walk", { first: chosen.first.size, other: other.value, seed: seed.value || 0 }, new Blob(parts));
      fit(section, found.size);
      const figures = found.rows.map((row) => figure({ ...row, uri: row.frames[0] }));
      one("#frames").replaceChildren(...figures);
      rows = found.rows.map((row, place) => ({ ...row, image: one("img", figures[place]) }));
      share.max = found.rows[0].frames.length - 1;
      share.value = 0;
      one("#walked").hidden = false;
      one("#walk-error").textContent = "";
      if (!matchMedia("(prefers-reduced-motion: reduce)").matches)
        timer = setInterval(() => {
          share.value = Number(share.value) + 1;
          frame();
          if (share.value === share.max) clearInterval(timer);
        }, 200);
    } catch (error) {
      one("#walk-error").textContent = error.message;
    }
    section.classList.remove("busy");
  });
  share.addEventListener("input", () => {
    clearInterval(timer);
    frame();
  });
  one("#go").addEventListener("click", walk);

  // Where a picture comes from: a held-out image, a file, the clipboard, the webcam.
  const take = (which, blob, button) => {
    if (blob.size > limits.bytes) return tell(which, `the picture has ${(blob.size / 2 ** 20).toFixed(0)} MiB, more than ${limits.bytes / 2 ** 20}: scale it down`);
    chosen[which] = blob;
    all(".examples button", one(`#${which}`)).forEach((each) => each.setAttribute("aria-pressed", each === button));
    tell(which, "");
    if (which === "first") return [translate(), walkAgain()];
    const image = one("#second-shown");
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(blob);
    image.hidden = false;
    return walk();
  };
  const tell = (which, text) => (one(which === "first" ? "#error" : "#walk-error").textContent = text);
  const examples = (which, letter, first) => {
    const count = current().examples[letter] ?? 0, root = one(`#${which}`);
    one(".held-out", root).hidden = !count;
    const buttons = [...Array(count).keys()].map((number) => {
      const source = `/example?${new URLSearchParams({ run: run.value, letter, number })}`;
      const button = make("button", { type: "button", ariaPressed: "false" }, make("img", { src: source, alt: `${current().labels[letter]}, held-out image ${number + 1}` }));
      button.addEventListener("click", async () => take(which, await (await fetch(source)).blob(), button));
      return button;
    });
    one(".examples", root).replaceChildren(...buttons);
    if (first) buttons[0]?.click();
  };
  for (const which of ["first", "second"]) {
    const root = one(`#${which}`), video = one("video", root), live = one(".live", root), file = one(".file", root);
    const leave = () => {
      video.srcObject?.getTracks().forEach((track) => track.stop());
      video.srcObject = null;
      live.hidden = true;
    };
    file.addEventListener("change", () => {
      if (file.files[0]) take(which, file.files[0]);
      file.value = "";
    });
    one(".camera", root).addEventListener("click", async () => {
      if (!navigator.mediaDevices) return tell(which, "browsers lend a webcam to pages of this machine (127.0.0.1) or of https alone");
      try {
        video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
        live.hidden = false;
        await video.play();
      } catch (error) {
        leave();
        tell(which, `the webcam cannot be used: ${error.message}`);
      }
    });
    one(".take", root).addEventListener("click", () => {
      const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      leave();
      canvas.toBlob((blob) => blob && take(which, blob), "image/png");
    });
    one(".leave", root).addEventListener("click", leave);
  }
  const target = (event) => (event.target.closest?.("#walk") ? "second" : "first");
  const pictureIn = (list) => [...list].find((each) => each.type.startsWith("image/"));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    all(".dropping").forEach((each) => each.classList.remove("dropping"));
    one(target(event) === "second" ? "#walk" : ".choices").classList.add("dropping");
  });
  for (const kind of ["dragleave", "drop"]) addEventListener(kind, () => all(".dropping").forEach((each) => each.classList.remove("dropping")));
  addEventListener("drop", (event) => {
    event.preventDefault();
    const file = pictureIn(event.dataTransfer.files);
    if (file) take(target(event), file);
    else if (event.dataTransfer.files.length) tell(target(event), "that is no picture: drop a jpg, png, webp, bmp or tiff");
  });
  addEventListener("paste", (event) => {
    const file = pictureIn(event.clipboardData.files);
    if (file) take("first", file);
  });

  // What is chosen.
  const showWalk = () => {
    const { walk: kind, labels } = current(), [first] = path.value, last = path.value.at(-1);
    one("#walk").hidden = !kind || (kind === "styles" && first === last);
    one("#reading").hidden = kind !== "codes";
    one("#walked").hidden = true;
    one("#walk-title").textContent = kind === "styles" ? "A walk between two styles" : "A walk between two latent codes";
    one("#walk-about").textContent =
      kind === "styles"
        ? `The picture as ${labels[last]}, in styles from the drawn one to that of a second picture of ${labels[last]}; without one, to another that is drawn.`
        : "From the code of the picture above to that of a second one, in equal steps, decoded.";
    const readable = kind === "styles" ? [last] : [...new Set(current().paths.map((each) => each.path[0]))];
    options(other, readable.map((letter) => [letter, labels[letter]]));
    showSecond();
  };
  const showSecond = () => {
    chosen.second = null;
    one("#second-shown").hidden = true;
    examples("second", other.value);
  };
  const showRun = () => {
    const { paths, sizes, steps, step, walk: kind, notes } = current();
    options(path, paths.map((each) => [each.path, `${each.name}, ${each.path}`]));
    options(size, sizes.map((each) => [each.size, each.words]));
    one("#styled").hidden = kind !== "styles";
    one("#notes").replaceChildren(...notes.map((note) => make("li", { textContent: note })));
    showSteps(Math.max(steps.indexOf(step), 0));
    showPath();
  };
  let read = "";
  const showPath = () => {
    const letter = path.value[0], known = `${run.value}${letter}`;
    const own = chosen.first && !one("#first [aria-pressed=true]"); // a picture of the user's stays
    const same = known === read;
    if (!same) examples("first", letter, !own);
    if (same || own) translate();
    read = known;
    showWalk();
  };
  run.addEventListener("change", showRun);
  path.addEventListener("change", showPath);
  const walkAgain = () => one("#walked").hidden || walk();
  for (const each of [size, seed, checkpoint]) each.addEventListener("change", walkAgain);
  size.addEventListener("change", translate);
  seed.addEventListener("input", translate);
  other.addEventListener("change", showSecond);
  checkpoint.addEventListener("input", () => {
    showStep();
    translate();
  });

  // The edge of the wipe follows the pointer over the picture.
  const wipe = one("#wipe");
  one("#wiped").addEventListener("pointermove", (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    wipe.value = (100 * (event.clientX - box.left)) / box.width;
    wipe.dispatchEvent(new Event("input"));
  });
  if (runs.length < 2) run.closest(".field").hidden = true;
  showRun();
})();
