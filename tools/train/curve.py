"""A loss curve as SVG."""

import math


def write(file, points):
    """`points`: (step, loss); the loss on a logarithmic scale."""
    width, height, margin = 720, 300, 40
    steps, low, high = max(p[0] for p in points), min(p[1] for p in points), max(p[1] for p in points)
    span = math.log(high / low) or 1.0
    def at(step, loss):
        return margin + (width - 2 * margin) * step / steps, margin + (height - 2 * margin) * math.log(high / loss) / span
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*p) for p in points))
    text = 'font-family="sans-serif" font-size="12"'
    file.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><rect width="{width}" height="{height}" fill="#fff"/>'
        f'<polyline points="{line}" fill="none" stroke="#26c" stroke-width="1.5"/>'
        f'<text x="{margin}" y="{margin - 12}" {text}>loss, from {high:.3f} to {low:.3f} (logarithmic)</text>'
        f'<text x="{width - margin}" y="{height - 12}" text-anchor="end" {text}>step {steps}</text></svg>\n')
