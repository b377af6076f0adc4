"use strict";
// From a drawing to 28x28 pixels as MNIST's: reading/preparation.py again, for even paper.
// A picture is {rows, columns, values}: values row by row, 0 for paper and 1 for full ink.

const BOX = 20;
const WORK = 80;
const MIDDLE = 14.5;
const SPECK = 0.02;
const FAR = 0.5;
const THIN = 5.8;
const STROKE = 8.3;

// From a square drawing, 0..1 for ink, to 784 whole numbers of 0..255; null for a blank one.
// Throws an Error, with what to do, if it holds several digits.
function prepare(drawing) {
  const drawn = crop(drawing);
  if (drawn === null) return null;
  const peak = drawn.values.reduce((most, value) => Math.max(most, value), 0);
  const ink = crop(withoutSpecks({ ...drawn, values: drawn.values.map((value) => value / peak) }));
  return centre(scaleTo(thicken(scaleTo(ink, WORK)), BOX));
}

function picture(rows, columns) {
  return { rows, columns, values: new Float64Array(rows * columns) };
}

// The ink without small separate patches. A patch is connected by sides or corners.
function withoutSpecks(ink) {
  const patches = findPatches(ink);
  const most = Math.max(...patches.map((patch) => patch.amount));
  const large = patches.filter((patch) => patch.amount >= SPECK * most);
  if (farApart(large)) throw new Error("Several digits: draw one at a time");
  const kept = picture(ink.rows, ink.columns);
  for (const patch of large) for (const place of patch.places) kept.values[place] = ink.values[place];
  return kept;
}

function findPatches(ink) {
  const seen = new Uint8Array(ink.values.length);
  const patches = [];
  ink.values.forEach((value, place) => {
    if (value > 0 && !seen[place]) patches.push(flood(ink, place, seen));
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
        if (values[neighbour] > 0 && !seen[neighbour]) {
          seen[neighbour] = 1;
          places.push(neighbour);
        }
      }
  }
  return patch;
}

function farApart(patches) {
  const tallest = Math.max(...patches.map((patch) => patch.bottom - patch.top));
  const sorted = [...patches].sort((a, b) => a.left - b.left);
  let right = sorted[0].right;
  return sorted.some((patch) => {
    const gap = patch.left - right;
    right = Math.max(right, patch.right);
    return gap > FAR * tallest;
  });
}

// The smallest rectangle that holds all the ink; null without any.
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
  if (bottom === 0) return null;
  const cropped = picture(bottom - top, right - left);
  for (let y = top; y < bottom; y++)
    cropped.values.set(ink.values.subarray(y * ink.columns + left, y * ink.columns + right), (y - top) * cropped.columns);
  return cropped;
}

// Thin strokes thickened to MNIST's typical width by a disk with a soft edge.
function thicken(ink) {
  const padded = pad(ink, Math.floor(STROKE));
  const width = (2 * sum(padded.values)) / outline(padded);
  if (width >= THIN) return ink;
  const radius = (STROKE - width) / 2;
  const reach = Math.ceil(radius);
  const thick = { ...padded, values: padded.values.slice() };
  for (let down = -reach; down <= reach; down++)
    for (let across = -reach; across <= reach; across++) {
      const weight = Math.min(1, radius + 0.5 - Math.hypot(down, across));
      if (weight > 0) spread(padded, thick, down * padded.columns + across, weight);
    }
  return scaleTo(crop(thick), WORK);
}

// Each pixel of `thick` becomes at least `weight` times the ink that far before it.
function spread(ink, thick, distance, weight) {
  for (let place = Math.max(distance, 0); place < Math.min(ink.values.length, ink.values.length + distance); place++)
    thick.values[place] = Math.max(thick.values[place], weight * ink.values[place - distance]);
}

// The length of the ink's outline: the sum of its slopes.
function outline(ink) {
  const at = (y, x) => ink.values[y * ink.columns + x];
  let length = 0;
  for (let y = 0; y < ink.rows; y++)
    for (let x = 0; x < ink.columns; x++) {
      const up = Math.max(y - 1, 0), down = Math.min(y + 1, ink.rows - 1);
      const left = Math.max(x - 1, 0), right = Math.min(x + 1, ink.columns - 1);
      const steep = (at(down, x) - at(up, x)) / (down - up), slant = (at(y, right) - at(y, left)) / (right - left);
      length += Math.sqrt(steep * steep + slant * slant);
    }
  return length;
}

function pad(ink, margin) {
  const padded = picture(ink.rows + 2 * margin, ink.columns + 2 * margin);
  for (let y = 0; y < ink.rows; y++)
    padded.values.set(
      ink.values.subarray(y * ink.columns, (y + 1) * ink.columns), (y + margin) * padded.columns + margin);
  return padded;
}

// The picture with `longest` pixels on its longest side: a new pixel is the mean of the old ones under it.
function scaleTo(ink, longest) {
  const factor = longest / Math.max(ink.rows, ink.columns);
  const rows = Math.max(1, Math.floor(ink.rows * factor + 0.5));
  const columns = Math.max(1, Math.floor(ink.columns * factor + 0.5));
  const narrow = picture(ink.rows, columns);
  overlaps(columns, ink.columns, (column, old, share) => {
    for (let y = 0; y < ink.rows; y++)
      narrow.values[y * columns + column] += share * ink.values[y * ink.columns + old];
  });
  const scaled = picture(rows, columns);
  overlaps(rows, ink.rows, (row, old, share) => {
    for (let x = 0; x < columns; x++) scaled.values[row * columns + x] += share * narrow.values[old * columns + x];
  });
  return scaled;
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
  let row = 0, column = 0;
  ink.values.forEach((value, place) => {
    row += value * (Math.floor(place / ink.columns) + 0.5);
    column += value * ((place % ink.columns) + 0.5);
  });
  const total = sum(ink.values);
  const top = within(Math.trunc(MIDDLE - row / total + 0.5), SIDE - ink.rows);
  const left = within(Math.trunc(MIDDLE - column / total + 0.5), SIDE - ink.columns);
  const digit = new Uint8Array(SIDE * SIDE);
  ink.values.forEach((value, place) => {
    const y = top + Math.floor(place / ink.columns), x = left + (place % ink.columns);
    digit[y * SIDE + x] = Math.floor(value * 255 + 0.5);
  });
  return digit;
}

const within = (value, most) => Math.min(Math.max(value, 0), most);
const sum = (values) => values.reduce((total, value) => total + value, 0);
