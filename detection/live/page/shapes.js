// Where pointers are, and points that are moved and stretched. Points are fractions of the image.

const DRAG = 8; // CSS pixels that a pointer moves before it drags

/** Where a pointer is: {pixel: in the image, share: as fractions of it}. */
export function place(tile, event) {
  const box = tile.canvas.getBoundingClientRect();
  const pixel = [event.clientX - box.left, event.clientY - box.top];
  return { pixel, share: within([pixel[0] / box.width, pixel[1] / box.height]) };
}

export const within = (point) => point.map((value) => Math.min(Math.max(value, 0), 1));
export const far = ([x1, y1], [x2, y2], than = DRAG) => Math.hypot(x1 - x2, y1 - y2) > than;

/** Moved as a whole, and no further than the image's edges. */
export function shifted(points, dx, dy) {
  const held = (move, axis) => {
    const values = points.map((point) => point[axis]);
    return Math.min(Math.max(move, -Math.min(...values)), 1 - Math.max(...values));
  };
  const [x, y] = [held(dx, 0), held(dy, 1)];
  return points.map((point) => [point[0] + x, point[1] + y]);
}

/** Wider or narrower, higher or lower, around its middle. */
export function stretched(points, dx, dy) {
  const scaled = (axis, more) => {
    const values = points.map((point) => point[axis]);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const size = most - least;
    const factor = size ? Math.max((size + 2 * more) / size, 0.02 / size) : 1;
    return (value) => (least + most) / 2 + (value - (least + most) / 2) * factor;
  };
  const [x, y] = [scaled(0, dx), scaled(1, -dy)];
  return points.map((point) => within([x(point[0]), y(point[1])]));
}
