// What the theme leaves out for keyboards and screen readers.
document$.subscribe(() => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search")
  document.querySelectorAll("nav.md-code__nav").forEach((nav, n) => nav.setAttribute("aria-label", `Code ${n + 1}`))
  document.querySelectorAll("nav.md-nav").forEach((nav, n) => {
    if (nav.dataset.mdLevel > 0) {
      nav.removeAttribute("aria-labelledby")
      nav.setAttribute("aria-label", `Part ${n}`)
    }
  })
  document.querySelectorAll(".md-content img").forEach(picture => {  // small on a phone: a tap shows it whole
    if (picture.closest("a") || picture.src.includes("#")) return
    const whole = Object.assign(document.createElement("a"), {href: picture.src})
    picture.replaceWith(whole)
    whole.append(picture)
  })
  document.querySelectorAll("td code").forEach(code => {  // long names break at their joints
    if (!code.children.length) code.innerHTML = code.innerHTML.replace(/(?<=\w)[._=\/](?=\w)/g, "$&<wbr>")
  })
  const reach = () => document.querySelectorAll(".md-typeset__scrollwrap, .output, .output pre, .md-typeset pre > code").forEach(box => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0
  })
  reach()
  addEventListener("resize", reach)
})
