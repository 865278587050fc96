// A click on a score sorts the measured rows by it, best first; another click turns the order.
for (const head of document.querySelectorAll(".scores thead th")) {
  const button = head.querySelector("button");
  button?.addEventListener("click", () => {
    const best = head.dataset.lower === "yes" ? "ascending" : "descending";
    const other = best === "ascending" ? "descending" : "ascending";
    const order = head.ariaSort === best ? other : best;
    for (const th of head.parentElement.children) th.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const body = document.querySelector(".scores tbody.measured");
    const value = (row) => parseFloat(row.children[head.cellIndex].dataset.value);
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      // What was not measured stays at the end in either order.
      return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y);
    });
    body.append(...rows);
  });
}
