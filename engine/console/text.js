// How values read, and nodes made of text. Everything a stream brings along goes into the page as
// text, never as markup.

export function element(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

export function bitRate(bits) {
  return bits >= 1e6 ? (bits / 1e6).toFixed(2) + ' Mbit/s' : Math.round(bits / 1e3) + ' kbit/s';
}

export function byteCount(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let index = 0;
  let value = bytes;
  for (; value >= 1024 && index < units.length - 1; index += 1) value /= 1024;
  return (index ? value.toFixed(1) : value) + ' ' + units[index];
}

// An ISO 8601 duration of the API as h:mm:ss.
export function clock(duration) {
  const found = /^PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?$/.exec(duration) || [];
  const [hours, minutes, seconds] = [1, 2, 3].map((i) => Number(found[i] || 0));
  const two = (n) => String(n).padStart(2, '0');
  return hours + ':' + two(minutes) + ':' + two(seconds);
}

export function count(number, noun) {
  return number + ' ' + noun + (number === 1 ? '' : 's');
}

export function copyButton(text) {
  const button = element('button', 'Copy');
  button.type = 'button';
  button.addEventListener('click', async () => {
    button.textContent = (await copy(text)) ? 'Copied' : 'Not copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1200);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages without TLS have no clipboard API.
    const area = element('textarea', text);
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}
