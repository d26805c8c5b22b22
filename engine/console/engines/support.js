// What the browser can decode, asked before anything is fetched.

const PROBES = {
  h264: ['H.264', 'video/mp4; codecs="avc1.64001f"'],
  h265: ['H.265', 'video/mp4; codecs="hvc1.1.6.L93.B0"'],
  av1: ['AV1', 'video/mp4; codecs="av01.0.05M.08"'],
  vp9: ['VP9', 'video/mp4; codecs="vp09.00.31.08"'],
  vp8: ['VP8', 'video/webm; codecs="vp8"'],
  aac: ['AAC', 'audio/mp4; codecs="mp4a.40.2"'],
  opus: ['Opus', 'audio/mp4; codecs="opus"'],
  mp3: ['MP3', 'audio/mpeg'],
  flac: ['FLAC', 'audio/mp4; codecs="flac"'],
  ac3: ['AC-3', 'audio/mp4; codecs="ac-3"'],
  eac3: ['E-AC-3', 'audio/mp4; codecs="ec-3"'],
};

// A sentence about the codecs of a stream of /api/live that cannot be played here, or ''.
export function unsupported(stream) {
  const Source = window.MediaSource || window.ManagedMediaSource;
  if (!stream || !Source) return '';
  const names = [stream.media.video, stream.media.audio].filter(Boolean).map(({ codec }) => codec.toLowerCase());
  const missing = names.map((name) => PROBES[name]).filter((probe) => probe && !Source.isTypeSupported(probe[1]));
  return missing.length ? 'This browser cannot decode ' + missing.map(([name]) => name).join(' and ') + '.' : '';
}
