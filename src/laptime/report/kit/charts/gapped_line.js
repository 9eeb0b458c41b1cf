"use strict";
// A line through values, broken where one is missing.

/** The path's `d`: x(i) is the pixel of the i-th value, y(value) that of a value. */
function gappedLine(values, x, y) {
  let drawn = "";
  values.forEach((value, i) => {
    if (value === null) return;
    const joins = drawn && values[i - 1] !== null;
    drawn += `${joins ? "L" : "M"}${x(i).toFixed(1)},${y(value).toFixed(1)}`;
  });
  return drawn;
}
