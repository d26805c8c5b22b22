// The lists: what is live, what has been recorded, which files there are.
import { bitRate, byteCount, clock, count, element } from './text.js';

// An entry: { key, kind, title, lines, current, open }.

// Puts entries into the list; those of before stay where they are, so that nothing vanishes under
// a pointer or loses the focus.
export function showEntries(list, entries) {
  const rows = new Map([...list.children].map((row) => [row.dataset.key, row]));
  entries.forEach((entry, index) => {
    const row = rows.get(entry.key) || newRow(entry.key);
    rows.delete(entry.key);
    update(row, entry);
    if (list.children[index] !== row) list.insertBefore(row, list.children[index] || null);
  });
  for (const row of rows.values()) row.remove();
}

function newRow(key) {
  const row = element('li');
  row.dataset.key = key;
  const button = element('button');
  button.type = 'button';
  row.append(button);
  return row;
}

function update(row, { kind, title, lines, current, open }) {
  const button = row.firstChild;
  row.className = kind;
  button.onclick = open;
  if (current) button.setAttribute('aria-current', 'true');
  else button.removeAttribute('aria-current');
  const texts = [title, ...lines];
  while (button.children.length > texts.length) button.lastChild.remove();
  texts.forEach((text, index) => {
    const node = button.children[index] || button.appendChild(element(index ? 'small' : 'b'));
    if (node.textContent !== text) node.textContent = text;
  });
}

export function keyOf({ vhost, app, name }) {
  return JSON.stringify([vhost, app, name]);
}

// A stream of /api/live as something to watch.
export function targetOf(stream) {
  return { vhost: stream.vhost, app: stream.app.name, name: stream.name };
}

export function viewersOf(stream) {
  return Object.values(stream.viewers).reduce((sum, number) => sum + number, 0);
}

export function liveEntry(stream, current, open) {
  const { video: v, audio: a } = stream.media;
  const media = [
    v && [v.codec.toUpperCase(), v.width && v.width + '×' + v.height, v.fps && v.fps + ' fps'],
    a && [a.codec.toUpperCase(), a.samplerate && a.samplerate / 1000 + ' kHz'],
  ];
  const key = keyOf(targetOf(stream));
  return {
    key,
    kind: 'live',
    title: stream.app.name + '/' + stream.name + (stream.vhost ? ' on ' + stream.vhost : ''),
    lines: [
      media.filter(Boolean).map((part) => part.filter(Boolean).join(' ')).join(' · '),
      [bitRate(stream.bits_per_second), count(viewersOf(stream), 'viewer'), clock(stream.app.duration)].join(' · '),
    ],
    current: current === key,
    open,
  };
}

// Recordings: names, their days, the pieces of a day. `path`: where in there.
export async function recordings(path, show) {
  if (path.length === 0) return folders(await fetchJson('/api/rec'), 'recordings', path);
  const answer = await fetchJson('/rec/' + path.map(encodePath).join('/'));
  if (path.length === 1) return folders(answer, 'recordings', path);
  return names(answer.files).map((file) => {
    const url = '/rec/' + [...path, file].map(encodePath).join('/');
    const title = file.replace(/\.\w+$/, '').replaceAll('-', ':');
    return { key: url, kind: 'file', title, lines: [], open: () => show({ url, title: [...path, title].join(' · ') }) };
  });
}

// Files of one folder; all pages of it.
export async function files(path, show) {
  const base = ['/api/vod', ...path.map(encodeURIComponent)].join('/');
  const entries = [];
  for (let page = 1, pages = 1; page <= pages; page += 1) {
    const answer = await fetchJson(base + (page > 1 ? '?page=' + page : ''));
    pages = answer.pages || 1;
    const info = new Map((answer.info || []).map((one) => [one.name, one]));
    entries.push(...folders(answer, 'files', path));
    entries.push(...names(answer.files).map((name) => fileEntry(path, name, info.get(name), show)));
  }
  return entries;
}

function fileEntry(path, name, info, show) {
  const plain = '/vod/' + [...path, name].map(encodeURIComponent).join('/');
  // What the browser cannot play as it lies there may be had as HLS.
  const url = info?.hls && !/\.(mp4|m4v|webm|mp3|m4a)$/i.test(name) ? info.hls : info?.url || plain;
  const lines = info ? [[byteCount(info.bytes), info.modified?.slice(0, 16).replace('T', ' ')].filter(Boolean).join(' · ')] : [];
  return { key: plain, kind: 'file', title: name, lines, open: () => show({ url, title: [...path, name].join('/') }) };
}

function folders(answer, tab, path) {
  return names(answer.dirs).map((name) => {
    const hash = hashOf(tab, [...path, name]);
    return { key: hash, kind: 'folder', title: name, lines: [], open: () => { location.hash = hash; } };
  });
}

export function hashOf(tab, path) {
  return '#' + [tab, ...path.map(encodeURIComponent)].join('/');
}

function names(list) {
  return (list || []).filter((name) => typeof name === 'string' && name !== '');
}

// A stream's name may hold slashes, which stay.
function encodePath(name) {
  return name.split('/').map(encodeURIComponent).join('/');
}

export async function fetchJson(url) {
  const answer = await fetch(url, { cache: 'no-store', headers: { accept: 'application/json' } });
  if (answer.status === 404) throw new Error('There is nothing of that kind on this server.');
  if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
  return answer.json();
}
