// A click on a column's head sorts the table by it; cells without a number go to the end.
for (const head of document.querySelectorAll("th[data-sort]")) head.addEventListener("click", () => {
  const falling = head.getAttribute("aria-sort") !== "descending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const key = row => { const text = row.cells[column].textContent; return text === "-" ? NaN : Number(text); };
  const order = (a, b) => {
    const x = key(a), y = key(b);
    if (head.dataset.sort === "text")
      return (falling ? -1 : 1) * b.cells[column].textContent.localeCompare(a.cells[column].textContent);
    return isNaN(x) - isNaN(y) || (falling ? y - x : x - y);
  };
  body.append(...[...body.rows].sort(order));
});
