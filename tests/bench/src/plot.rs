//! A plot with logarithmic axes as SVG, for light and dark pages.

use std::fmt::Write as _;

use crate::report::Curve;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 380.0;
/// Left, right, top and bottom of the area that is drawn on.
const AREA: (f64, f64, f64, f64) = (70.0, 500.0, 20.0, 330.0);
const COLOURS: [&str; 4] = ["#d9480f", "#1c7ed6", "#2f9e44", "#9c36b5"];

/// Curves over the number of instances, milliseconds.
pub fn svg(curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let decades = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        (low.max(1e-6).log10().floor(), high.max(1e-6).log10().ceil())
    };
    let (x0, x1) = decades(&mut points().map(|point| point.0));
    let (y0, y1) = decades(&mut points().map(|point| point.1));
    let (left, right, top, bottom) = AREA;
    let x = |value: f64| left + (value.log10() - x0) / (x1 - x0).max(1.0) * (right - left);
    let y =
        |value: f64| bottom - (value.max(1e-6).log10() - y0) / (y1 - y0).max(1.0) * (bottom - top);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"Cost of a pass over the number of instances\">\n<style>text{{font:12px \
         sans-serif;fill:#868e96}}.g{{stroke:#868e96;stroke-opacity:.3}}path{{fill:none;\
         stroke-width:2}}</style>\n"
    );
    let mut line = |text: String| svg.push_str(&(text + "\n"));
    for decade in x0 as i32..=x1 as i32 {
        let at = x(10_f64.powi(decade));
        line(format!(
            "<line class=\"g\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>"
        ));
        let label = power(decade);
        line(format!(
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            bottom + 18.0
        ));
    }
    for decade in y0 as i32..=y1 as i32 {
        let at = y(10_f64.powi(decade));
        line(format!(
            "<line class=\"g\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
        ));
        let label = time(decade);
        line(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left - 8.0,
            at + 4.0
        ));
    }
    let middle = (left + right) / 2.0;
    line(format!(
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">instances</text>",
        bottom + 40.0
    ));
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let mut path = String::new();
        for (index, (instances, ms)) in curve.points.iter().enumerate() {
            let step = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{step}{:.1} {:.1} ", x(*instances), y(*ms));
            line(format!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/>",
                x(*instances),
                y(*ms)
            ));
        }
        line(format!("<path d=\"{}\" stroke=\"{colour}\"/>", path.trim()));
        if let Some((instances, ms)) = curve.points.last() {
            let (at_x, at_y) = (x(*instances) + 10.0, y(*ms) + 4.0);
            let what = &curve.what;
            line(format!(
                "<text x=\"{at_x:.1}\" y=\"{at_y:.1}\" style=\"fill:{colour}\">{what}</text>"
            ));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn power(decade: i32) -> String {
    let digit = |c: char| c.to_digit(10).and_then(|d| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(d as usize));
    let raised: String = decade.to_string().chars().filter_map(digit).collect();
    format!("10{raised}")
}

fn time(decade: i32) -> String {
    match decade {
        3.. => format!("{} s", 10_i64.pow(decade as u32 - 3)),
        0.. => format!("{} ms", 10_i64.pow(decade as u32)),
        -3.. => format!("{} µs", 10_i64.pow((decade + 3) as u32)),
        _ => format!("{} ns", 10_i64.pow((decade + 6).max(0) as u32)),
    }
}
