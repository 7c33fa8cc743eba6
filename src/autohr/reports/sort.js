// Sorts the first body of a table by the column whose head is pressed; groups below it stay where they are.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const text = (row, column) => row.cells[column].textContent.trim();
  const words = (a, b) => a.localeCompare(b, undefined, { numeric: true });
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const isNumber = head.classList.contains("n");
      const rows = [...table.tBodies[0].rows].sort((one, other) => {
        const [a, b] = [text(one, column), text(other, column)];
        if (!isNumber) return (down ? -1 : 1) * words(a, b);
        const [x, y] = [parseFloat(a), parseFloat(b)];
        // A row without a number is last in either direction.
        return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : (down ? -1 : 1) * (x - y);
      });
      table.tBodies[0].append(...rows);
    });
  });
}
// A link into a section that is folded unfolds it.
function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const section = target && target.closest("details.video");
  if (!section) return;
  section.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", unfold);
document.addEventListener("click", (event) => {
  if (event.target.closest?.('a[href^="#"]')) setTimeout(unfold);
});
unfold();
