// A line as SVG, with its text alternative.

const SVG = 'http://www.w3.org/2000/svg';

export function chart(title, values, unit) {
  const svg = document.createElementNS(SVG, 'svg');
  const top = Math.max(...values, 0.001);
  const text = values.length
    ? `${title}: now ${values.at(-1).toFixed(1)} ${unit}, at most ${Math.max(...values).toFixed(1)} ${unit}` : `${title}: nothing yet`;
  svg.setAttribute('viewBox', '0 0 100 30');
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', text);
  const line = document.createElementNS(SVG, 'polyline');
  const step = 100 / Math.max(values.length - 1, 1);
  line.setAttribute('points', values.map((value, at) => `${(at * step).toFixed(2)},${(29 - (value / top) * 28).toFixed(2)}`).join(' '));
  svg.append(line);
  return svg;
}
