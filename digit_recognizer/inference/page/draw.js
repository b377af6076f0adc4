"use strict";
// The page: strokes on the board, and what the net reads in them, again and again while one is drawn.
// A stroke is a list of points {x, y}, from 0 to 1 across the board.

const PAPER_SIDE = 200; // pixels of the drawing that is read
const PEN = 0.055; // the stroke's width, of the board's
const MARGIN = PEN / 2 + 0.01; // no ink touches the edge, by which paper is known
const STEP = 0.02; // that the pen moves when an arrow key is pressed
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const element = (id) => document.getElementById(id);
const board = element("board");
const paper = document.createElement("canvas"); // black on white, for the net
paper.width = paper.height = PAPER_SIDE;
const paperContext = paper.getContext("2d", { willReadFrequently: true });

const strokes = [];
let pointer = null; // id of the pointer that draws
const pen = { x: 0.5, y: 0.3, shown: false, down: false }; // that the keys move
const pressed = new Set(); // arrow keys

// --- drawing

function drawStrokes(context, side, colour) {
  context.strokeStyle = colour;
  context.lineWidth = PEN * side;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(stroke[0].x * side, stroke[0].y * side);
    for (const { x, y } of stroke) context.lineTo(x * side, y * side);
    context.stroke();
  }
}

function drawBoard() {
  const side = Math.round(board.clientWidth * devicePixelRatio);
  if (board.width !== side) board.width = board.height = side;
  const context = board.getContext("2d");
  const style = getComputedStyle(board);
  context.clearRect(0, 0, side, side);
  drawStrokes(context, side, style.color);
  if (!pen.shown) return;
  context.strokeStyle = context.fillStyle = style.accentColor;
  context.lineWidth = 2 * devicePixelRatio;
  context.beginPath();
  context.arc(pen.x * side, pen.y * side, (PEN / 2) * side, 0, 2 * Math.PI);
  context.stroke();
  if (pen.down) context.fill();
}

// The drawing as the net takes it, 0 for paper and 1 for ink.
function takePicture() {
  paperContext.fillStyle = "white";
  paperContext.fillRect(0, 0, PAPER_SIDE, PAPER_SIDE);
  drawStrokes(paperContext, PAPER_SIDE, "black");
  const { data } = paperContext.getImageData(0, 0, PAPER_SIDE, PAPER_SIDE); // red, green, blue, alpha
  const ink = new Float64Array(PAPER_SIDE * PAPER_SIDE);
  for (let place = 0; place < ink.length; place++) ink[place] = (255 - data[4 * place]) / 255;
  return { rows: PAPER_SIDE, columns: PAPER_SIDE, values: ink };
}

function changed() {
  element("undo").disabled = element("clear").disabled = strokes.length === 0;
  element("hint").hidden = strokes.length > 0 || pen.shown;
  stale = true;
  requestAnimationFrame(() => {
    drawBoard();
    readNext();
  });
}

function undo() {
  if (strokes.length === 0) return;
  endStroke();
  strokes.pop();
  changed();
}

function clear() {
  endStroke();
  strokes.length = 0;
  changed();
}

function endStroke() {
  pointer = null;
  pen.down = false;
}

// --- prediction, in a worker, so that a slow net does not hold up the pen

let busy = false; // a picture is being read
let stale = false; // the drawing changed since the last picture of it
let prediction = null; // {digit, probabilities} or {problem}

// From the net's data to a function from a picture to what is read in it.
function makeReader(data) {
  const net = makeNet(data);
  return (drawing) => {
    try {
      const digit = prepare(drawing);
      return digit && { digit, probabilities: net(digit) };
    } catch (error) {
      return { problem: error.message };
    }
  };
}

function startWorker() {
  const answer = "let read; onmessage = ({ data }) => " +
    "typeof data === 'string' ? (read = makeReader(JSON.parse(data))) : postMessage(read(data));";
  const source = [element("net-js").textContent, element("prepare-js").textContent, String(makeReader), answer];
  const worker = new Worker(URL.createObjectURL(new Blob([source.join("\n")], { type: "text/javascript" })));
  worker.onmessage = ({ data }) => show(data);
  worker.onerror = (event) => { // a browser without workers in a local file: read in this thread
    event.preventDefault();
    const read = makeReader(JSON.parse(element("net").textContent));
    send = (drawing) => setTimeout(() => show(read(drawing)));
    busy = false;
    stale = true;
    readNext();
  };
  worker.postMessage(element("net").textContent);
  return (drawing) => worker.postMessage(drawing, [drawing.values.buffer]);
}

let send = startWorker();

function readNext() {
  if (busy || !stale) return;
  busy = true;
  stale = false;
  performance.mark("sent");
  send(takePicture());
}

function show(result) {
  performance.measure("prediction", "sent");
  busy = false;
  prediction = strokes.length ? result : null;
  showProbabilities(prediction?.probabilities);
  showSeen(prediction?.digit ?? new Uint8Array(SIDE * SIDE));
  if (stale) readNext();
  else if (pointer === null) announce();
}

function showProbabilities(probabilities) {
  const best = probabilities && likeliest(probabilities);
  [...element("bars").children].forEach((row, digit) => {
    row.querySelector(".bar").style.setProperty("--share", probabilities ? probabilities[digit].toFixed(4) : 0);
    row.querySelector(".value").textContent = probabilities ? percent(probabilities[digit]) : "–";
    row.classList.toggle("best", digit === best);
  });
  element("verdict").textContent = best ?? (prediction ? "?" : "–");
  element("words").textContent = probabilities ? likely(best, probabilities) : "";
}

// Said beside the likeliest digit.
function likely(best, probabilities) {
  const next = likeliest(probabilities.map((p, digit) => (digit === best ? -1 : p)));
  const after = probabilities[next] >= 0.005 ? `; next ${next}, ${percent(probabilities[next])}` : "";
  return `${percent(probabilities[best])} likely${after}`;
}

function showSeen(digit) {
  const context = element("seen").getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  digit.forEach((ink, place) => image.data.set([ink, ink, ink, 255], 4 * place));
  context.putImageData(image, 0, 0);
}

// At the end of a stroke only: screen readers read out each change, and a stroke's first points are no digit yet.
function announce() {
  if (prediction?.problem) element("words").textContent = prediction.problem;
  const words = element("words").textContent;
  const text = prediction?.probabilities ? `${element("verdict").textContent}, ${words}` : words;
  if (element("status").textContent !== text) element("status").textContent = text;
}

const likeliest = (probabilities) => probabilities.indexOf(Math.max(...probabilities));
const percent = (share) => `${Math.round(100 * share)}%`;

// --- mouse, pen and finger

const within01 = (value) => Math.min(Math.max(value, MARGIN), 1 - MARGIN);

function place(event) {
  const box = board.getBoundingClientRect();
  return { x: within01((event.clientX - box.left) / box.width), y: within01((event.clientY - box.top) / box.height) };
}

board.addEventListener("pointerdown", (event) => {
  if (pointer !== null || event.button !== 0) return; // a second finger, a right click
  event.preventDefault(); // keeps the focus ring for the keyboard
  pointer = event.pointerId;
  board.setPointerCapture(pointer);
  pen.shown = pen.down = false;
  strokes.push([place(event)]);
  changed();
});

board.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pointer) return;
  const events = event.getCoalescedEvents?.() ?? [];
  strokes.at(-1).push(...(events.length ? events : [event]).map(place));
  changed();
});

for (const end of ["pointerup", "pointercancel"])
  board.addEventListener(end, (event) => {
    if (event.pointerId !== pointer) return;
    endStroke();
    changed();
  });

// --- keyboard

board.addEventListener("keydown", (event) => {
  if (event.key in ARROWS) {
    pressed.add(event.key);
    movePen(event.shiftKey ? STEP / 4 : STEP);
  } else if (event.key === " " && !event.repeat) {
    pen.down = !pen.down;
    if (pen.down) strokes.push([{ x: pen.x, y: pen.y }]);
  } else return;
  event.preventDefault();
  pen.shown = true;
  changed();
});
board.addEventListener("keyup", (event) => pressed.delete(event.key));
board.addEventListener("blur", () => {
  pressed.clear();
  pen.shown = pen.down = false;
  changed();
});

// Two arrows at once move the pen aslant.
function movePen(step) {
  for (const key of pressed) {
    const [x, y] = ARROWS[key];
    pen.x = within01(pen.x + x * step);
    pen.y = within01(pen.y + y * step);
  }
  if (pen.down) strokes.at(-1).push({ x: pen.x, y: pen.y });
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") clear();
  else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") undo();
  else return;
  event.preventDefault();
});

element("undo").addEventListener("click", undo);
element("clear").addEventListener("click", clear);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawBoard);
new ResizeObserver(drawBoard).observe(board);
showSeen(new Uint8Array(SIDE * SIDE));
