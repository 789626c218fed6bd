// The results page shows one network at a time. The choice is kept in the address
// (?network=cifar10-vgg), so that it can be sent, and for this visit, so that it survives links.
(() => {
  const menu = document.getElementById('snn-network');
  if (!menu) return;
  const root = document.documentElement, status = document.querySelector('.snn-chosen');
  const names = [...menu.options].map(option => option.value);
  const kept = key => { try { return sessionStorage.getItem(key); } catch { return null; } };
  const keep = (key, value) => { try { sessionStorage.setItem(key, value); } catch { /* private */ } };

  // The heading that the reader looks at, and how far below the top it is.
  const place = () => {
    const heads = [...document.querySelectorAll('article h2')];
    const top = head => head.getBoundingClientRect().top;
    const head = heads.filter(h => top(h) < innerHeight / 2).pop();
    return head && { head, top: top(head) };
  };

  const show = network => {
    root.classList.toggle('snn-all', network === 'all');
    for (const group of document.querySelectorAll('.snn-per')) {
      const blocks = [...group.querySelectorAll(':scope > .snn-of')];
      const own = blocks.find(block => block.dataset.network === network);
      for (const block of blocks) block.classList.toggle('snn-on', block === (own || blocks[0]));
      const note = group.querySelector(':scope > .snn-absent');
      if (note) note.hidden = Boolean(own) || network === 'all';
    }
    for (const rows of document.querySelectorAll('.snn-glance tbody[data-network]'))
      rows.classList.toggle('snn-row-on', rows.dataset.network === network);
  };

  const choose = network => {
    const before = place();
    show(network);
    if (before) scrollBy({ top: before.head.getBoundingClientRect().top - before.top, behavior: 'instant' });
    keep('snn-network', network);
    const address = new URL(location.href);
    address.searchParams.set('network', network);
    try { history.replaceState(history.state, '', address); } catch { /* opened as a file */ }
    status.textContent = `Shown: ${menu.selectedOptions[0].textContent}`;
  };

  const asked = [new URLSearchParams(location.search).get('network'), kept('snn-network')];
  menu.value = asked.find(name => names.includes(name)) || names[0];
  show(menu.value);
  keep('snn-network', menu.value);
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  menu.addEventListener('change', () => choose(menu.value));
  // Names of networks in the first table choose, too; as plain links they open the page anew.
  for (const link of document.querySelectorAll('.snn-glance a[data-network]'))
    link.addEventListener('click', event => {
      event.preventDefault();
      menu.value = link.dataset.network;
      choose(menu.value);
      document.getElementById('accuracy-over-time')?.scrollIntoView();
    });
})();
