//! Rows of figures to something to read: a table in Markdown, the rows as JSON, a picture of cost
//! against latency.

use std::fmt::Write;
use std::fs;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::args::{Args, say};
use crate::{Outcome, machine};

/// Three decimals are more than any figure here is good for; `null` for what is no number.
pub fn round(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}

/// Adds the members of one object to another.
pub fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

/// An empty histogram of microseconds, up to an hour.
pub fn microseconds() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are in order")
}

/// Median, 99th percentile and maximum of microseconds, in milliseconds.
pub fn histogram_ms(histogram: &Histogram<u64>) -> Value {
    let ms = |us: u64| round(us as f64 / 1000.0);
    if histogram.is_empty() {
        return json!({ "count": 0 });
    }
    json!({
        "count": histogram.len(),
        "p50": ms(histogram.value_at_quantile(0.5)),
        "p99": ms(histogram.value_at_quantile(0.99)),
        "max": ms(histogram.max()),
    })
}

/// As [`histogram_ms`], of single values in microseconds.
pub fn distribution_ms(values: impl Iterator<Item = u64>) -> Value {
    let mut histogram = microseconds();
    values.for_each(|value| histogram.saturating_record(value));
    histogram_ms(&histogram)
}

/// Reads rows, prints their table, writes the three files.
///
/// # Errors
/// The rows cannot be read or the files not written.
pub fn run(args: &mut Args) -> Outcome<()> {
    let rows: String = args.need("rows")?;
    let base: String = args.need("out")?;
    let scenario: String = args.need("scenario")?;
    let command: String = args.take("command", String::new())?;
    let commit: String = args.take("commit", String::new())?;
    args.done()?;
    let rows: Vec<Value> =
        fs::read_to_string(rows)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let machine = machine::describe();
    let table = table(&rows);
    let markdown = format!(
        "# {scenario}\n\n* machine: {machine}\n* commit: {commit}\n* command: `{command}`\n\n\
         {table}\n{LEGEND}"
    );
    let document = json!({
        "scenario": scenario, "machine": machine, "commit": commit, "command": command,
        "rows": rows,
    });
    fs::write(format!("{base}.json"), serde_json::to_string_pretty(&document)?)?;
    fs::write(format!("{base}.md"), markdown)?;
    fs::write(format!("{base}.svg"), picture(&scenario, &rows))?;
    say(&table);
    Ok(())
}

const LEGEND: &str = "\
One row per server: the median of its runs, with the lowest and highest where they differ. \
*CPU-s/GB*: CPU seconds of the server, all threads, user and system, per delivered (or sent) \
gigabyte; on loopback that holds the receiver's share of TCP. *with load*: plus the load \
generator. *x floor*, *x nginx*: that figure over the floor's with the same window, and over \
nginx's, of the same run. *latency*: from just before the publisher's write of a picture to the \
arrival of its last byte at a probe. *bad*: damaged frames + frames out of order + starts \
without keyframe + gaps that end on no keyframe. *packets lost*: datagrams of probes passed over \
by their sequence numbers. *undelivered*: datagrams for whom their socket had no room. *other*: CPUs used by everything else.\n";

type Column = (&'static str, fn(&Value) -> Option<f64>);

const COLUMNS: [Column; 26] = [
    ("joined", |row| number(row, "/joined")),
    ("Mbit/s", |row| number(row, "/mbit_per_s")),
    ("per s", |row| number(row, "/per_second")),
    ("requests/s", |row| number(row, "/requests_per_s")),
    ("us per request", |row| number(row, "/server_us_per_request")),
    ("us per viewer and s", |row| number(row, "/server_us_per_viewer_second")),
    ("server CPU", |row| number(row, "/server_share")),
    ("CPU-s/GB", |row| number(row, "/cpu_s_per_gb")),
    ("with load", |row| number(row, "/cpu_s_per_gb_with_load")),
    ("p50 ms", |row| number(row, "/latency_ms/p50")),
    ("p99 ms", |row| number(row, "/latency_ms/p99")),
    ("max ms", |row| number(row, "/latency_ms/max")),
    ("listed p50 ms", |row| number(row, "/listed_ms/p50")),
    ("listed p99 ms", |row| number(row, "/listed_ms/p99")),
    ("first media p50", |row| number(row, "/first_media_ms/p50")),
    ("first media p99", |row| number(row, "/first_media_ms/p99")),
    ("first picture p99", |row| number(row, "/first_video_ms/p99")),
    ("KiB/viewer", |row| number(row, "/rss_kib_per_viewer")),
    ("stalls", |row| number(row, "/stalls")),
    ("lost", |row| number(row, "/lost").or_else(|| number(row, "/failed"))),
    ("bad", bad),
    ("packets lost", |row| number(row, "/datagrams/packets_lost")),
    ("undelivered", |row| number(row, "/datagrams/undelivered")),
    ("slow jumps", |row| number(row, "/slow/jumps").filter(|_| has_slow(row))),
    ("slow lost", |row| number(row, "/slow_lost").filter(|_| has_slow(row))),
    ("other", |row| number(row, "/other_cpus")),
];

fn has_slow(row: &Value) -> bool {
    number(row, "/slow/frames").is_some_and(|frames| frames > 0.0)
}

fn bad(row: &Value) -> Option<f64> {
    let names = ["damaged", "backwards", "bad_starts", "broken_jumps"];
    let places = ["checked", "slow"];
    let each = places.iter().flat_map(|place| names.map(|name| format!("/{place}/{name}")));
    each.filter_map(|path| number(row, &path)).reduce(|a, b| a + b)
}

fn number(row: &Value, path: &str) -> Option<f64> {
    row.pointer(path)?.as_f64()
}

fn text<'a>(row: &'a Value, path: &str) -> &'a str {
    row.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// Rows by what they measured, in order of first appearance.
fn groups(rows: &[Value]) -> Vec<(&str, Vec<&Value>)> {
    let mut groups: Vec<(&str, Vec<&Value>)> = Vec::new();
    for row in rows {
        let name = text(row, "/server");
        match groups.iter_mut().find(|group| group.0 == name) {
            Some(group) => group.1.push(row),
            None => groups.push((name, vec![row])),
        }
    }
    groups
}

/// Lowest, median and highest.
fn spread(rows: &[&Value], pick: fn(&Value) -> Option<f64>) -> Option<[f64; 3]> {
    let mut values: Vec<f64> = rows.iter().filter_map(|row| pick(row)).collect();
    values.sort_by(f64::total_cmp);
    let middle =
        (values.get(values.len().saturating_sub(1) / 2)? + values.get(values.len() / 2)?) / 2.0;
    Some([*values.first()?, middle, *values.last()?])
}

fn cost(rows: &[&Value]) -> Option<f64> {
    spread(rows, |row| number(row, "/cpu_s_per_gb")).map(|[_, middle, _]| middle)
}

fn table(rows: &[Value]) -> String {
    let groups = groups(rows);
    let used: Vec<&Column> =
        COLUMNS.iter().filter(|column| rows.iter().any(|row| column.1(row).is_some())).collect();
    let mut out = String::from("| server | runs |");
    for (name, _) in &used {
        let _ = write!(out, " {name} |");
    }
    // Where containers are compared, FLV is what the others are held to; RTMP where RTSP is there.
    let any = |prefix: &str| groups.iter().any(|(name, _)| name.starts_with(prefix));
    let beside =
        [("server ts", "server flv", " x FLV |"), ("server rtsp", "server rtmp", " x RTMP |")]
            .into_iter()
            .find(|(prefix, ..)| any(prefix));
    let (beside_title, beside_line) = beside.map_or(("", ""), |(_, _, title)| (title, "---|"));
    let lines = "---|".repeat(used.len());
    let _ =
        writeln!(out, " x floor | x nginx |{beside_title}\n|---|---|{lines}---|---|{beside_line}");
    for (name, rows) in &groups {
        let _ = write!(out, "| {name} | {} |", rows.len());
        for (_, pick) in &used {
            let _ = write!(out, " {} |", cell(spread(rows, *pick)));
        }
        let window = rows[0].pointer("/window");
        let against = |wanted: &str, same_window: bool| {
            let other = groups.iter().find(|(name, rows)| {
                name.starts_with(wanted) && (!same_window || rows[0].pointer("/window") == window)
            });
            match (cost(rows), other.and_then(|(_, rows)| cost(rows))) {
                (Some(own), Some(other)) if other > 0.0 => format!("{:.2}", own / other),
                _ => "–".to_owned(),
            }
        };
        let datagrams = rows[0].pointer("/datagrams").is_some();
        let floor = if datagrams { "floor-gso" } else { "floor-epoll" };
        let _ = write!(out, " {} | {} |", against(floor, true), against("nginx", false));
        if let Some((_, wanted, _)) = beside {
            let _ = write!(out, " {} |", against(wanted, true));
        }
        let _ = writeln!(out);
    }
    out
}

fn cell(spread: Option<[f64; 3]>) -> String {
    let show = |value: f64| match value.abs() {
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    let Some([low, middle, high]) = spread else { return "–".to_owned() };
    let (low, middle, high) = (show(low), show(middle), show(high));
    if low == high { middle } else { format!("{middle} ({low}–{high})") }
}

/// Cost against 99th percentile of latency, one point per run, latency on a logarithmic scale.
fn picture(title: &str, rows: &[Value]) -> String {
    const COLOURS: [&str; 8] =
        ["#c0392b", "#2471a3", "#1e8449", "#b9770e", "#6c3483", "#117a65", "#566573", "#884ea0"];
    let groups = groups(rows);
    let point =
        |row: &Value| Some((number(row, "/latency_ms/p99")?, number(row, "/cpu_s_per_gb")?));
    let points: Vec<(f64, f64)> = rows.iter().filter_map(point).collect();
    let highest = points.iter().map(|point| point.1).fold(0.5, f64::max) * 1.1;
    let latest = points.iter().map(|point| point.0).fold(100.0, f64::max) * 1.2;
    let x = |ms: f64| 60.0 + 480.0 * ms.max(1.0).log10() / latest.log10();
    let y = |cost: f64| 360.0 - 310.0 * cost / highest;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 400\" \
         font-family=\"sans-serif\" font-size=\"12\"><rect width=\"800\" height=\"400\" \
         fill=\"white\"/><text x=\"60\" y=\"25\" font-size=\"15\">{}: CPU seconds per GB against \
         p99 latency in ms</text><path d=\"M60 50V360H540\" stroke=\"black\" fill=\"none\"/>",
        escape(title)
    );
    for decade in (0..5).map(|power| 10f64.powi(power)).filter(|&ms| ms <= latest) {
        let _ = write!(out, "<text x=\"{:.0}\" y=\"378\">{decade}</text>", x(decade));
    }
    for step in 0..=4 {
        let cost = highest * f64::from(step) / 4.0;
        let _ = write!(out, "<text x=\"20\" y=\"{:.0}\">{cost:.2}</text>", y(cost) + 4.0);
    }
    for (index, (name, rows)) in groups.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        for (ms, cost) in rows.iter().filter_map(|row| point(row)) {
            let (x, y) = (x(ms), y(cost));
            let _ = write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{colour}\"/>");
        }
        let at = 60 + index * 20;
        let name = escape(name);
        let _ = write!(
            out,
            "<circle cx=\"565\" cy=\"{at}\" r=\"5\" fill=\"{colour}\"/>\
             <text x=\"578\" y=\"{}\">{name}</text>",
            at + 4
        );
    }
    out.push_str("</svg>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_whole() {
        let figures = distribution_ms([1000, 2000, 5_000_000].into_iter());
        assert_eq!(number(&figures, "/p50"), Some(2.0));
        assert!(number(&figures, "/max").unwrap() >= 4995.0);
    }

    #[test]
    fn medians_and_ratios() {
        let row = |server: &str, cost: f64| json!({"server": server, "cpu_s_per_gb": cost});
        let rows = [
            row("server", 1.0),
            row("floor-epoll", 2.0),
            row("nginx", 4.0),
            row("server", 3.0),
            row("server", 1.5),
        ];
        let table = table(&rows);
        assert!(table.contains("| server | 3 | 1.50 (1–3) | 0.75 | 0.38 |"), "{table}");
        assert!(picture("a<b", &rows).contains("a&lt;b"));
    }
}
