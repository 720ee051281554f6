"use strict";
for (const part of document.querySelectorAll(".scripted")) part.hidden = false;
for (const card of document.querySelectorAll(".stack")) {
  const kept = card.querySelector("template").content;
  const slices = [...kept.querySelectorAll("img")];
  const frame = card.querySelector(".frame");
  const picture = frame.querySelector("img");
  const place = card.querySelector(".place");
  const slider = card.querySelector("input");
  const buttons = [...card.querySelectorAll("button")];
  const drawn = document.importNode(kept.querySelector("svg"), true);
  const boxes = [...drawn.querySelectorAll("rect")].reverse();  // as the buttons are; the first is drawn last, on top
  frame.append(drawn);

  function show(turn) {
    const level = Number(slices[turn].dataset.level);
    picture.src = slices[turn].getAttribute("src");
    let there = 0;
    boxes.forEach((box, k) => {
      const here = Number(box.dataset.first) <= level && level <= Number(box.dataset.last);
      there += here;
      box.setAttribute("visibility", here ? "visible" : "hidden");
      if (buttons[k]) buttons[k].setAttribute("aria-current", String(here));
    });
    place.textContent = slices[turn].alt;
    picture.alt = `${picture.dataset.name}. ${slices[turn].alt}, boxes drawn in: ${there}`;
    slider.value = String(turn);
    slider.setAttribute("aria-valuetext", slices[turn].alt);
  }

  function step(by) {
    const turn = Math.min(Math.max(Number(slider.value) + by, 0), slices.length - 1);
    const moved = turn !== Number(slider.value);
    if (moved) show(turn);
    return moved;
  }

  slider.addEventListener("input", () => show(Number(slider.value)));
  frame.addEventListener("click", () => slider.focus({ preventScroll: true }));
  buttons.forEach((button, k) => button.addEventListener("click", () => {
    boxes.forEach((box, j) => box.classList.toggle("sought", j === k));
    show(Number(button.dataset.turn));
  }));

  // The wheel is the page's own until the pointer itself has moved on the picture, and at either end of the slices.
  let awake = false, rolled = 0;
  frame.addEventListener("pointermove", (event) => { awake ||= event.movementX !== 0 || event.movementY !== 0; });
  frame.addEventListener("pointerleave", () => { awake = false; rolled = 0; });
  frame.addEventListener("wheel", (event) => {
    if (!awake || event.ctrlKey || !event.deltaY) return;
    rolled += event.deltaMode ? 50 * Math.sign(event.deltaY) : event.deltaY;
    if (Math.abs(rolled) < 50) return event.preventDefault();
    if (step(-Math.sign(rolled))) event.preventDefault();
    rolled = 0;
  }, { passive: false });

  show(Number(slider.value));
}
