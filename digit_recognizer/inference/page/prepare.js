"use strict";
// From a drawing to 28x28 pixels as MNIST's: inference/preparation.py again, for even paper without lines.
// A picture is {rows, columns, values}: values row by row, 0 for paper and 1 for full ink.

const BOX = 20;
const MIDDLE = 14.5;
const LEVEL = 0.15;
const FAINT = 0.2;
const SPECK = 0.01;
const MAIN = 0.15;
const INNER = 0.1;
const TALL = 0.5;
const NEAR = 0.06;
const SAME = 0.8;
const PATCH = 0.45;

// From a square drawing, 0..1 for ink, to 784 whole numbers of 0..255; null for a blank one.
// Throws an Error, with what to do, if it holds several digits or a patch that is no stroke.
function prepare(drawing) {
  const patches = findPatches(drawing);
  if (patches.length === 0) return null;
  const digit = picture(drawing.rows, drawing.columns);
  for (const patch of join(patches)) for (const place of patch.places) digit.values[place] = drawing.values[place];
  const ink = crop(digit);
  if (largestSquare(ink) > PATCH * Math.max(ink.rows, ink.columns)) throw new Error("A patch, no stroke: draw a digit");
  return centre(fit(crop({ ...ink, values: ink.values.map((value) => (value > FAINT ? value : 0)) })));
}

function picture(rows, columns) {
  return { rows, columns, values: new Float64Array(rows * columns) };
}

function findPatches(ink) {
  const seen = new Uint8Array(ink.values.length);
  const patches = [];
  ink.values.forEach((value, place) => {
    if (value > LEVEL && !seen[place]) patches.push(flood(ink, place, seen));
  });
  return patches;
}

function flood(ink, start, seen) {
  const { rows, columns, values } = ink;
  const places = [start];
  const patch = { places, amount: 0, top: rows, bottom: 0, left: columns, right: 0 };
  seen[start] = 1;
  for (let next = 0; next < places.length; next++) {
    const place = places[next];
    const y = Math.floor(place / columns), x = place % columns;
    patch.amount += values[place];
    patch.top = Math.min(patch.top, y);
    patch.bottom = Math.max(patch.bottom, y + 1);
    patch.left = Math.min(patch.left, x);
    patch.right = Math.max(patch.right, x + 1);
    for (let row = Math.max(y - 1, 0); row <= Math.min(y + 1, rows - 1); row++)
      for (let column = Math.max(x - 1, 0); column <= Math.min(x + 1, columns - 1); column++) {
        const neighbour = row * columns + column;
        if (values[neighbour] > LEVEL && !seen[neighbour]) {
          seen[neighbour] = 1;
          places.push(neighbour);
        }
      }
  }
  return patch;
}

// The patches that are one digit: it grows from its tallest patch by what is near.
function join(patches) {
  const most = Math.max(...patches.map((patch) => patch.amount));
  const rest = patches.filter((patch) => patch.amount >= SPECK * most).sort((a, b) => height(b) - height(a));
  const tall = height(rest[0]);
  const digit = rest.splice(rest.findIndex((patch) => patch.amount >= MAIN * most), 1);
  const box = { ...digit[0] };
  for (;;) {
    const near = rest.findIndex((patch) => isNear(patch, box, tall));
    if (near < 0) break;
    const [patch] = rest.splice(near, 1);
    digit.push(patch);
    for (const side of ["left", "top"]) box[side] = Math.min(box[side], patch[side]);
    for (const side of ["right", "bottom"]) box[side] = Math.max(box[side], patch[side]);
  }
  if (rest.some((patch) => height(patch) >= TALL * tall && patch.amount >= INNER * most))
    throw new Error("Several digits: draw one at a time");
  return digit;
}

function isNear(patch, box, tall) {
  const gap = Math.max(
    patch.left - box.right, box.left - patch.right, patch.top - box.bottom, box.top - patch.bottom);
  if (height(patch) >= TALL * tall || patch.top >= box.bottom)
    return gap <= NEAR * tall && height(patch) < SAME * tall;
  return gap <= Math.max(patch.right - patch.left, height(patch)) / 2;
}

// The side of the largest square of ink: at each pixel, the one that ends there.
function largestSquare(ink) {
  const sides = new Uint16Array(ink.values.length);
  const at = (y, x) => (y < 0 || x < 0 ? 0 : sides[y * ink.columns + x]);
  ink.values.forEach((value, place) => {
    const y = Math.floor(place / ink.columns), x = place % ink.columns;
    if (value > 0) sides[place] = 1 + Math.min(at(y - 1, x), at(y, x - 1), at(y - 1, x - 1));
  });
  return sides.reduce((most, side) => Math.max(most, side));
}

// The smallest rectangle that holds all the ink.
function crop(ink) {
  let top = ink.rows, bottom = 0, left = ink.columns, right = 0;
  for (let y = 0; y < ink.rows; y++)
    for (let x = 0; x < ink.columns; x++) {
      if (ink.values[y * ink.columns + x] === 0) continue;
      if (y < top) top = y;
      if (x < left) left = x;
      if (x >= right) right = x + 1;
      bottom = y + 1;
    }
  const cropped = picture(bottom - top, right - left);
  for (let y = top; y < bottom; y++)
    cropped.values.set(ink.values.subarray(y * ink.columns + left, y * ink.columns + right), (y - top) * cropped.columns);
  return cropped;
}

// The ink with BOX pixels on its longest side, each the mean of the old ones under it; the most becomes full ink.
function fit(ink) {
  const factor = BOX / Math.max(ink.rows, ink.columns);
  const rows = Math.max(1, Math.floor(ink.rows * factor + 0.5));
  const columns = Math.max(1, Math.floor(ink.columns * factor + 0.5));
  const narrow = picture(ink.rows, columns);
  overlaps(columns, ink.columns, (column, old, share) => {
    for (let y = 0; y < ink.rows; y++)
      narrow.values[y * columns + column] += share * ink.values[y * ink.columns + old];
  });
  const fitted = picture(rows, columns);
  overlaps(rows, ink.rows, (row, old, share) => {
    for (let x = 0; x < columns; x++) fitted.values[row * columns + x] += share * narrow.values[old * columns + x];
  });
  const most = Math.max(...fitted.values);
  return { ...fitted, values: fitted.values.map((value) => value / most) };
}

// Calls back with the share of each new pixel that each old one covers.
function overlaps(newSide, oldSide, callback) {
  const step = oldSide / newSide;
  for (let pixel = 0; pixel < newSide; pixel++) {
    const start = pixel * step, end = (pixel + 1) * step;
    for (let old = Math.floor(start); old < Math.min(Math.ceil(end), oldSide); old++)
      callback(pixel, old, (Math.min(end, old + 1) - Math.max(start, old)) / step);
  }
}

// The ink in 28x28 pixels, its centre of mass as near the middle as whole pixels allow.
function centre(ink) {
  let row = 0, column = 0, total = 0;
  ink.values.forEach((value, place) => {
    total += value;
    row += value * (Math.floor(place / ink.columns) + 0.5);
    column += value * ((place % ink.columns) + 0.5);
  });
  const top = within(Math.trunc(MIDDLE - row / total + 0.5), SIDE - ink.rows);
  const left = within(Math.trunc(MIDDLE - column / total + 0.5), SIDE - ink.columns);
  const digit = new Uint8Array(SIDE * SIDE);
  ink.values.forEach((value, place) => {
    const y = top + Math.floor(place / ink.columns), x = left + (place % ink.columns);
    digit[y * SIDE + x] = Math.floor(value * 255 + 0.5);
  });
  return digit;
}

const height = (patch) => patch.bottom - patch.top;
const within = (value, most) => Math.min(Math.max(value, 0), most);
