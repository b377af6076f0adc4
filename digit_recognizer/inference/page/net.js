"use strict";
// A run's forward pass: from 28x28 pixels to ten probabilities, as `predict` computes them.
// Arrays are flat. An image is (row, column, channel), a kernel is (row, column, channel in, channel out).

const SIDE = 28;
const CLASSES = 10;
const LEAST = 1e-6;

// From the page's data to a function from 784 numbers of 0..255 to ten probabilities.
function makeNet(data) {
  const models = data.models.map((model) => ({ ...model, fits: model.fits.map((fit) => fit.map(decodeLayer)) }));
  return (pixels) => blend(models.map((model) => predict(model, pixels)), data.blend);
}

function decodeLayer(layer) {
  const { buffer } = bytes(layer.kernel);
  const kernel = layer.bits === 32 ? new Float32Array(buffer) : Float32Array.from(new Uint16Array(buffer), float16);
  return { ...layer, kernel, bias: new Float32Array(bytes(layer.bias).buffer) };
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

function float16(half) {
  const sign = half >> 15 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : (2 ** -14 * fraction) / 1024);
}

// The geometric mean over the fits, each the mean over the views; see predictions.py.
function predict(model, pixels) {
  let image = Float64Array.from(pixels, (pixel) => pixel / 255);
  if (model.deskew) image = deskew(image);
  const views = model.tta ? shiftedViews(image) : [image];
  const fits = model.fits.map((layers) => mean(views.map((view) => forward(model, layers, view))));
  if (fits.length === 1) return fits[0];
  return toSum1(mean(fits.map((row) => row.map((share) => Math.log(Math.max(share, LEAST))))).map(Math.exp));
}

function mean(rows) {
  return rows[0].map((_, digit) => rows.reduce((sum, row) => sum + row[digit], 0) / rows.length);
}

// The image, and the image moved by a pixel up, left, right and down.
function shiftedViews(image) {
  return [[0, 0], [-1, 0], [0, -1], [0, 1], [1, 0]].map(([down, right]) => {
    const view = new Float64Array(SIDE * SIDE);
    for (let y = 0; y < SIDE; y++)
      for (let x = 0; x < SIDE; x++) view[y * SIDE + x] = pixelAt(image, y - down, x - right);
    return view;
  });
}

function pixelAt(image, y, x) {
  return y >= 0 && y < SIDE && x >= 0 && x < SIDE ? image[y * SIDE + x] : 0;
}

// The image without its slant, its mean ink in the middle; see nets/augment.py.
function deskew(image) {
  let mass = 0, meanX = 0, meanY = 0, cross = 0, down = 0;
  image.forEach((ink, place) => {
    const x = place % SIDE, y = Math.floor(place / SIDE);
    mass += ink;
    meanX += ink * x;
    meanY += ink * y;
    cross += ink * x * y;
    down += ink * y * y;
  });
  if (mass === 0) return image;
  meanX /= mass;
  meanY /= mass;
  const slant = (cross / mass - meanX * meanY) / Math.max(down / mass - meanY * meanY, 1e-3);
  const middle = (SIDE - 1) / 2;
  return image.map((_, place) => {
    const x = (place % SIDE) - middle, y = Math.floor(place / SIDE) - middle;
    return between(image, y + meanY, x + slant * y + meanX);
  });
}

// The image between its pixels, bilinearly.
function between(image, y, x) {
  const top = Math.floor(y), left = Math.floor(x);
  const below = y - top, right = x - left;
  return (
    (1 - below) * ((1 - right) * pixelAt(image, top, left) + right * pixelAt(image, top, left + 1)) +
    below * ((1 - right) * pixelAt(image, top + 1, left) + right * pixelAt(image, top + 1, left + 1))
  );
}

// One fit's ten probabilities for one view.
function forward(model, layers, view) {
  const isConvolution = (layer) => layer.shape.length === 4;
  let values = view, side = SIDE;
  layers.forEach((layer, number) => {
    if (isConvolution(layer)) {
      values = convolve(values, side, layer); // (side, side, channels)
      side = Math.ceil(side / layer.stride);
      activate(values, model.activation);
      const next = layers[number + 1];
      if (model.global_pool && !isConvolution(next)) values = pool(values, layer.shape[3]);
    } else {
      values = dense(values, layer); // (units,)
      if (number < layers.length - 1) activate(values, model.activation);
    }
  });
  return model.output === "sigmoid" ? toSum1(values.map(logistic)) : softmax(values);
}

function dense(values, layer) {
  const [, units] = layer.shape;
  const sums = Float64Array.from(layer.bias);
  addProducts(values, 0, values.length, layer.kernel, 0, sums, 0, units);
  return sums;
}

// A convolution with TensorFlow's "same" padding.
function convolve(image, side, layer) {
  const [size, , depth, channels] = layer.shape;
  const newSide = Math.ceil(side / layer.stride);
  const padding = Math.floor(Math.max((newSide - 1) * layer.stride + size - side, 0) / 2);
  const output = new Float64Array(newSide * newSide * channels);
  for (let row = 0; row < newSide; row++)
    for (let column = 0; column < newSide; column++) {
      const to = (row * newSide + column) * channels;
      output.set(layer.bias, to);
      for (let i = 0; i < size; i++) {
        const y = row * layer.stride + i - padding;
        if (y < 0 || y >= side) continue;
        for (let j = 0; j < size; j++) {
          const x = column * layer.stride + j - padding;
          if (x < 0 || x >= side) continue;
          const kernelAt = (i * size + j) * depth * channels;
          addProducts(image, (y * side + x) * depth, depth, layer.kernel, kernelAt, output, to, channels);
        }
      }
    }
  return output;
}

// sums[to..] += values[from..] @ kernel[kernelAt..]; (depth,) @ (depth, units). What is 0 takes no time.
function addProducts(values, from, depth, kernel, kernelAt, sums, to, units) {
  for (let k = 0; k < depth; k++) {
    const value = values[from + k];
    if (value === 0) continue;
    const start = kernelAt + k * units;
    for (let unit = 0; unit < units; unit++) sums[to + unit] += value * kernel[start + unit];
  }
}

function pool(image, channels) {
  const means = new Float64Array(channels);
  image.forEach((value, place) => (means[place % channels] += value));
  return means.map((sum) => (sum * channels) / image.length);
}

const logistic = (x) => 1 / (1 + Math.exp(-x));
const ACTIVATIONS = {
  relu: (x) => (x > 0 ? x : 0),
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
  gelu: (x) => (x * (1 + erf(x / Math.SQRT2))) / 2,
  tanh: Math.tanh,
  logistic,
};

function activate(values, name) {
  const activation = ACTIVATIONS[name];
  for (let i = 0; i < values.length; i++) values[i] = activation(values[i]);
}

// To 1.5e-7: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - series * Math.exp(-x * x));
}

function softmax(values) {
  const top = Math.max(...values);
  return toSum1(values.map((value) => Math.exp(value - top)));
}

function toSum1(values) {
  const sum = values.reduce((total, value) => total + value, 0);
  return Float64Array.from(values, (value) => value / sum);
}

// The models' probabilities as one; see blending.py. blend: null for a single model.
function blend(models, combiner) {
  if (combiner === null) return models[0];
  if (combiner.method === "mean") return mean(models);
  if (combiner.method === "stacked") return stack(models, combiner);
  const calibrated = models.map((model, i) => withTemperature(model, combiner.inverse_temperatures[i]));
  const weighted = calibrated[0].map((_, digit) =>
    calibrated.reduce((sum, model, i) => sum + combiner.weights[i] * model[digit], 0));
  return withTemperature(weighted, combiner.inverse_temperature);
}

function withTemperature(probabilities, inverse) {
  return toSum1(probabilities.map((p) => Math.min(Math.max(p, 1e-12), 1) ** inverse));
}

function stack(models, combiner) {
  const features = models.flatMap((model) => [...model].map((p) => Math.log(Math.min(Math.max(p, LEAST), 1))));
  const logits = combiner.coefficients.map((row, i) =>
    row.reduce((sum, coefficient, k) => sum + coefficient * features[k], combiner.intercepts[i]));
  const probabilities = new Float64Array(CLASSES);
  softmax(logits).forEach((p, i) => (probabilities[combiner.classes[i]] = p));
  return probabilities;
}
