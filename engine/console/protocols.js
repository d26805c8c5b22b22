// The ways to watch one live stream, and the addresses they have.

// `offered`: the types of /api/live that stand for it. `query` chooses the low-latency form.
export const PROTOCOLS = [
  { id: 'flv', label: 'FLV', engine: 'flv', offered: ['http-flv'], extension: 'flv' },
  { id: 'ws-flv', label: 'FLV over WebSocket', engine: 'flv', offered: ['ws-flv'], extension: 'flv', webSocket: true },
  { id: 'hls', label: 'HLS', engine: 'hls', offered: ['hls', 'http-hls'], extension: 'm3u8' },
  { id: 'll-hls', label: 'LL-HLS', engine: 'hls', offered: ['hls', 'http-hls'], extension: 'm3u8', query: 'format=fmp4', lowLatency: true },
  { id: 'dash', label: 'DASH', engine: 'dash', offered: ['dash', 'http-dash'], extension: 'mpd' },
  { id: 'll-dash', label: 'LL-DASH', engine: 'dash', offered: ['dash', 'http-dash'], extension: 'mpd', query: 'll=1', lowLatency: true },
];

export const DEFAULT_PROTOCOL = PROTOCOLS[0];

export function protocolOf(id) {
  return PROTOCOLS.find((protocol) => protocol.id === id);
}

// Whether the server offers the stream that way; everything is tried of a stream not listed.
export function isOffered(protocol, stream) {
  return !stream || stream.urls.some(({ type }) => protocol.offered.includes(type));
}

// The page's own host is the one address known to work from here; only a stream of another vhost
// needs the address the server names.
export function liveUrl(protocol, target, stream) {
  let url;
  if (target.vhost && stream) {
    url = new URL(stream.urls.find(({ type }) => protocol.offered.includes(type)).url);
  } else {
    const path = [target.app, ...target.name.split('/')].map(encodeURIComponent).join('/');
    url = new URL('/' + path + '.' + protocol.extension, location.href);
  }
  if (protocol.query) url.search = protocol.query;
  return protocol.webSocket ? asWebSocket(url) : url.href;
}

// Every address of a stream to hand on: those of the API and the low-latency forms of them.
export function addresses(stream) {
  return stream.urls.flatMap(({ type, url }) => {
    const forms = PROTOCOLS.filter((p) => p.lowLatency && p.offered.includes(type));
    return [[type, url], ...forms.map((p) => [p.label, url + '?' + p.query])];
  });
}

// What plays any address: { engine, url, lowLatency }, or an error for the viewer.
export function playbackOf(address) {
  const url = new URL(address, location.href);
  if (!['http:', 'https:', 'ws:', 'wss:'].includes(url.protocol)) throw new Error('unknown kind of URL');
  const webSocket = /^wss?:$/.test(url.protocol);
  const end = url.pathname.slice(url.pathname.lastIndexOf('.') + 1).toLowerCase();
  const engine = { flv: 'flv', m3u8: 'hls', mpd: 'dash' }[end] || (webSocket ? 'flv' : 'file');
  const low = new URLSearchParams(url.search);
  return { engine, url: url.href, lowLatency: low.get('format') === 'fmp4' || low.get('ll') === '1' };
}

function asWebSocket(url) {
  return (url.protocol === 'https:' ? 'wss://' : 'ws://') + url.host + url.pathname + url.search;
}
