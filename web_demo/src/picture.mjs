// The photo as it was looked at, and the outline of what was taken for the lesion.

// rgb: bytes of the framed photo.
export function draw(canvas, rgb, { width, height }) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    image.data[to] = rgb[from];
    image.data[to + 1] = rgb[from + 1];
    image.data[to + 2] = rgb[from + 2];
    image.data[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// mask: {data, shape: [1, rows, columns]}, of cells of `scale` pixels of the working size.
export function outline(canvas, mask, workingSize, scale) {
  const context = canvas.getContext("2d");
  context.save();
  context.scale(canvas.width / workingSize.width, canvas.height / workingSize.height);
  const path = edges(mask, scale);
  // Light on dark, so that it is seen on any skin and lesion; no colour carries it.
  const pixel = workingSize.width / 300;
  context.lineCap = "round";
  context.lineWidth = 3 * pixel;
  context.strokeStyle = "rgb(0 0 0 / 70%)";
  context.stroke(path);
  context.lineWidth = 1.5 * pixel;
  context.strokeStyle = "white";
  context.stroke(path);
  context.restore();
}

export function coverage(mask) {
  return mask.data.reduce((sum, cell) => sum + cell, 0) / mask.data.length;
}

// Closed curves through the middles of the sides between lesion and skin.
function edges(mask, scale) {
  const path = new Path2D();
  for (const loop of loops(mask)) {
    const at = (i) => loop.at(i % loop.length).map((n) => n * scale);
    const middle = (i) => at(i).map((n, axis) => (n + at(i + 1)[axis]) / 2);
    path.moveTo(...middle(0));
    for (let i = 1; i <= loop.length; i++) path.quadraticCurveTo(...at(i), ...middle(i));
    path.closePath();
  }
  return path;
}

// Corners [x, y] in order, the lesion always on the same hand.
function loops({ data, shape: [, rows, columns] }) {
  const inside = (y, x) => y >= 0 && y < rows && x >= 0 && x < columns && data[y * columns + x] > 0;
  const sides = new Map(); // from a corner to the next, one or two
  const side = (x, y, toX, toY) => {
    const from = y * (columns + 1) + x;
    sides.set(from, [...(sides.get(from) ?? []), [toX, toY]]);
  };
  for (let y = 0; y < rows; y++)
    for (let x = 0; x < columns; x++) {
      if (!inside(y, x)) continue;
      if (!inside(y - 1, x)) side(x, y, x + 1, y);
      if (!inside(y, x + 1)) side(x + 1, y, x + 1, y + 1);
      if (!inside(y + 1, x)) side(x + 1, y + 1, x, y + 1);
      if (!inside(y, x - 1)) side(x, y + 1, x, y);
    }
  const found = [];
  for (const [start, ends] of sides)
    while (ends.length > 0) {
      const loop = [];
      let at = start;
      do {
        const next = sides.get(at).pop();
        loop.push(next);
        at = next[1] * (columns + 1) + next[0];
      } while (at !== start);
      found.push(loop);
    }
  return found;
}
