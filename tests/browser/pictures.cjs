// Pictures of pages and what they are compared with.
//
// Letters are smoothed a little differently by every version of the browser, so that pixels are not compared one by one:
// what is compared is the mean colour of blocks of 8 by 8. A word, a colour or a line that moves changes many of them by
// much; smoothing changes all of them by little. Baselines are kept at half their size and in few colours.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const zlib = require("node:zlib");

const folder = path.join(__dirname, "baselines");
/** Of the picture at half its size. */
const block = 4;
/** A block is another one when a channel's mean differs by more than this of 255. */
const tolerance = 20;
/** So many blocks may be others: less than the shortest word has. */
const allowed = 6;
const colours = 96;

/** Width, height and RGBA of a PNG: the browser itself unpacks it. */
async function unpack(page, png) {
  const [width, height, text] = await page.evaluate(async (data) => {
    const image = await createImageBitmap(await (await fetch(data)).blob());
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const bytes = context.getImageData(0, 0, image.width, image.height).data;
    let raw = "";
    for (let at = 0; at < bytes.length; at += 0x8000) raw += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
    return [image.width, image.height, btoa(raw)];
  }, `data:image/png;base64,${png.toString("base64")}`);
  return { width, height, data: Buffer.from(text, "base64") };
}

/** At half the size: the mean of four pixels is one. */
function halve({ width, height, data }) {
  const half = { width: width >> 1, height: height >> 1 };
  half.data = Buffer.alloc(half.width * half.height * 4, 255);
  for (let y = 0; y < half.height; y++) {
    for (let x = 0; x < half.width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        const from = (y * 2 * width + x * 2) * 4 + channel;
        const sum = data[from] + data[from + 4] + data[from + width * 4] + data[from + width * 4 + 4];
        half.data[(y * half.width + x) * 4 + channel] = sum / 4;
      }
    }
  }
  return half;
}

/** The mean colour of each block. */
function reduce({ width, height, data }) {
  const [columns, rows] = [Math.ceil(width / block), Math.ceil(height / block)];
  const sums = new Float64Array(columns * rows * 3);
  const counts = new Uint32Array(columns * rows);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [to, from] = [Math.floor(y / block) * columns + Math.floor(x / block), (y * width + x) * 4];
      counts[to] += 1;
      for (let channel = 0; channel < 3; channel++) sums[to * 3 + channel] += data[from + channel];
    }
  }
  return sums.map((sum, index) => sum / counts[Math.floor(index / 3)]);
}

/** What is different, in words; null where nothing is. */
function compare(now, before) {
  if (now.width !== before.width || now.height !== before.height) {
    return `is ${now.width} by ${now.height}, was ${before.width} by ${before.height}`;
  }
  const [a, b] = [reduce(now), reduce(before)];
  const others = new Set();
  a.forEach((mean, index) => { if (Math.abs(mean - b[index]) > tolerance) others.add(Math.floor(index / 3)); });
  if (others.size <= allowed) return null;
  const columns = Math.ceil(now.width / block);
  const first = Math.min(...others);
  const at = `${(first % columns) * block * 2}, ${Math.floor(first / columns) * block * 2}`;
  return `${others.size} blocks of ${a.length / 3} are others, the first at ${at}`;
}

/** A palette for these colours, and where each is in it: colours that are frequent and far from those chosen come next. */
function choose(counts) {
  const parts = (key) => [key >> 16, (key >> 8) & 255, key & 255];
  const left = [...counts].map(([key, count]) => ({ key, parts: parts(key), weight: Math.sqrt(count), far: Infinity, at: 0 }));
  const palette = [];
  while (palette.length < Math.min(colours, left.length)) {
    const next = left.reduce((best, one) => (one.weight * one.far > best.weight * best.far ? one : best));
    for (const one of left) {
      const far = one.parts.reduce((sum, part, index) => sum + (part - next.parts[index]) ** 2, 0);
      if (far < one.far) Object.assign(one, { far, at: palette.length });
    }
    palette.push(next.key);
  }
  return [palette.map(parts), new Map(left.map(({ key, at }) => [key, at]))];
}

/** A PNG of a few colours: a fifth of the size, and nobody sees the difference. */
function pack({ width, height, data }) {
  const round = (value) => Math.min(255, (value + 4) & ~7);
  const counts = new Map();
  const keys = new Uint32Array(width * height);
  for (let index = 0; index < keys.length; index++) {
    const [r, g, b] = [0, 1, 2].map((channel) => round(data[index * 4 + channel]));
    keys[index] = (r << 16) | (g << 8) | b;
    counts.set(keys[index], (counts.get(keys[index]) ?? 0) + 1);
  }
  const [palette, nearest] = choose(counts);
  const rows = Buffer.alloc((width + 1) * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) rows[y * (width + 1) + 1 + x] = nearest.get(keys[y * width + x]);
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3, 0, 0, 0], 8); // 8 bits, palette.
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"),
    chunk("IHDR", header),
    chunk("PLTE", Buffer.from(palette.flat())),
    chunk("IDAT", zlib.deflateSync(rows, { level: 9 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

/** A part of a PNG (its specification, section 5). */
function chunk(name, data) {
  const body = Buffer.concat([Buffer.from(name, "latin1"), data]);
  let crc = 0xffffffff;
  for (const byte of body) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  const ends = Buffer.alloc(8);
  ends.writeUInt32BE(data.length, 0);
  ends.writeUInt32BE(~crc >>> 0, 4);
  return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)]);
}

/** Compares a picture with its baseline, or makes it one where `THROTTLESCOPE_BASELINES=write`. */
async function check(unpacker, name, png) {
  const file = path.join(folder, `${name}.png`);
  const seen = process.env.THROTTLESCOPE_SCREENSHOTS;
  if (seen) fs.writeFileSync(path.join(seen, `${name}.png`), png);
  const now = halve(await unpack(unpacker, png));
  if (process.env.THROTTLESCOPE_BASELINES === "write") {
    fs.writeFileSync(file, pack(now));
    return null;
  }
  if (!fs.existsSync(file)) return `${name}: there is no baseline; THROTTLESCOPE_BASELINES=write makes one`;
  const different = compare(now, await unpack(unpacker, fs.readFileSync(file)));
  return different && `${name}: ${different}; look at it with THROTTLESCOPE_SCREENSHOTS=FOLDER`;
}

module.exports = { check, compare };
