//! The page: what is asked for and what it came to, then what stands behind it.

use std::fmt::Write as _;

use comparison::{Load, Subject};
use lab::load::Placement;
use lab::reference::Backend;

use super::svg::escaped;
use super::{Report, bars, charts, curves};
use crate::judge::{Judgement, Unit, Verdict};

const STYLE: &str = include_str!("style.css");

/// What each name stands for.
const NAMES: &[(&str, &str, &str)] = &[
    ("limit", "L, R", "two namespaces on one wire; a host that routes, without netfilter"),
    ("plain", "B0", "a Linux bridge without rules"),
    ("nft", "B1n, B2n", "a bridge with Docker 28's rules by iptables-nft; a port published by them, and masquerade"),
    ("legacy", "B1l, B2l", "the same by iptables-legacy"),
    ("ours", "E-W, N-S, out", "two endpoints of our own network; a published port; masquerade"),
    ("adopted", "adopted", "the same on a bridge of dockerd's"),
];

/// Whether a judgement of this name belongs to a group.
type Belongs = fn(&str) -> bool;

/// The whole page.
#[must_use]
pub fn page(report: &Report<'_>) -> String {
    let mut body = String::new();
    head(&mut body, report);
    targets(&mut body, report.judgements);
    references(&mut body, report);
    latencies(&mut body, report);
    growth(&mut body, report);
    tables(&mut body, report);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Datapath: the paired comparison</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

fn head(body: &mut String, report: &Report<'_>) {
    let length = if report.session.quick { "A quick look: few and short runs. " } else { "" };
    let _ = write!(
        body,
        "<h1>Datapath beside the wire, a router and Docker’s rules</h1>\n<p>{length}{}</p>\n<p class=\"told\">{}</p>\n",
        escaped(&report.summary()),
        escaped(&report.session.told())
    );
    body.push_str("<div class=\"tiles\">\n");
    for wanted in ["E-W / L", "E-W / B1n", "N-S / R", "N-S / B2n", "out / B2n out"] {
        for judgement in report.judgements.iter().filter(|judgement| judgement.row == wanted) {
            if judgement.detail == "request/response, same, IPv4" {
                tile(body, judgement);
            }
        }
    }
    body.push_str("</div>\n");
}

fn tile(body: &mut String, judgement: &Judgement) {
    let _ = writeln!(
        body,
        "<div class=\"tile {}\"><b>{}</b><span>{}, {}<br>must be {}</span></div>",
        class(judgement.verdict()),
        escaped(&judgement.middle()),
        escaped(&judgement.row),
        escaped(&judgement.detail),
        escaped(&judgement.wanted())
    );
}

const fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Missed => "missed",
        Verdict::NotMeasured => "",
        Verdict::Met | Verdict::Reached => "met",
    }
}

fn targets(body: &mut String, judgements: &[Judgement]) {
    body.push_str(
        "<h2>Targets</h2>\n<p class=\"dim\">Medians of ratios that are taken inside a round; the line on a bar reaches from \
         quartile to quartile.</p>\n<div class=\"key\"><span class=\"v4\"><i></i>IPv4</span><span class=\"v6\"><i></i>IPv6</span>\
         <span><i class=\"mark\"></i>must</span><span><i class=\"mark goal\"></i>goal</span>\
         <span>✓ met, ✓✓ goal reached, ✗ missed</span></div>\n",
    );
    let groups: [(&str, Belongs); 5] = [
        ("Within the host, own network", |row| row.starts_with("E-W /")),
        ("Within the host, adopted network", |row| row.starts_with("adopted E-W")),
        ("A published port", |row| row.starts_with("N-S /") || row.starts_with("adopted N-S")),
        ("One of many published ports", |row| row.starts_with("N-S,")),
        ("Masquerade", |row| row.contains("out /")),
    ];
    for (title, belongs) in groups {
        let group: Vec<&Judgement> = judgements.iter().filter(|judgement| belongs(&judgement.row)).collect();
        card(body, title, &bars::draw(&bars::judged(&group), title));
    }
    body.push_str("<div class=\"tiles\">\n");
    for judgement in judgements.iter().filter(|judgement| judgement.unit != Unit::Ratio) {
        tile(body, judgement);
    }
    body.push_str("</div>\n");
}

/// A drawing under its title; nothing without a drawing.
fn card(body: &mut String, title: &str, drawing: &str) {
    if drawing.contains("<text") {
        let _ = writeln!(body, "<div class=\"card\"><h3>{}</h3>\n{drawing}</div>", escaped(title));
    }
}

fn names(body: &mut String) {
    body.push_str("<div class=\"key\">");
    for (class, name, meaning) in NAMES {
        let _ = write!(body, "<span class=\"{class}\"><i></i><b>{name}</b> {meaning}</span>");
    }
    body.push_str("</div>\n");
}

fn references(body: &mut String, report: &Report<'_>) {
    body.push_str("<h2>Beside all references</h2>\n");
    names(body);
    let loads = [Load::REQUESTS, Load::CONNECTIONS, Load::STREAM, Load::DATAGRAMS];
    let bridges = [None, Some(Backend::Nft), Some(Backend::Legacy)].map(Subject::Bridge);
    let within: Vec<Subject> = bridges.into_iter().chain([Subject::Switched, Subject::Adopted]).collect();
    let published = [Backend::Nft, Backend::Legacy].map(|backend| Subject::BridgePublished(backend, 1));
    let inward: Vec<Subject> =
        published.into_iter().chain([Subject::Published(1), Subject::AdoptedPublished]).collect();
    for (title, reference, subjects) in [
        ("Within the host, by the wire", Subject::Wire, within),
        ("To a published port, by a router", Subject::Routed, inward),
    ] {
        card(body, title, &bars::draw(&charts::beside(report.results, reference, &subjects, &loads), title));
    }
}

fn latencies(body: &mut String, report: &Report<'_>) {
    body.push_str(
        "<h2>Latency</h2>\n<p class=\"dim\">One byte there and one back, over one connection, by IPv4: the share of requests \
         that waited no longer, and beside each name the median. <i>Same</i>: both ends on one core; <i>spin</i>: each on a core of its own, polling; <i>x</i>: each on its own, sleeping.</p>\n\
         <div class=\"pair\">\n",
    );
    let axes = curves::Axes { x: "microseconds", y: "percent", x_logarithmic: true, y_logarithmic: false };
    for (placement, name) in [(Placement::Same, "same"), (Placement::Spin, "spin"), (Placement::Across, "x")] {
        for (title, subjects) in charts::ways() {
            let title = format!("{title}, {name}");
            card(body, &title, &curves::draw(&charts::latencies(report.results, &subjects, placement), &axes, &title));
        }
    }
    body.push_str("</div>\n");
}

fn growth(body: &mut String, report: &Report<'_>) {
    body.push_str("<h2>What grows with what</h2>\n<div class=\"pair\">\n");
    let results = report.results;
    let ports = |y| curves::Axes { x: "published ports", y, x_logarithmic: true, y_logarithmic: true };
    for (title, load, y) in [
        ("A new connection, the last of so many ports", Load::CONNECTIONS, "µs a connection"),
        ("A request, the last of so many ports", Load::REQUESTS, "µs a request"),
    ] {
        card(body, title, &curves::draw(&charts::by_ports(results, load), &ports(y), title));
    }
    let flows = |y| curves::Axes { x: "flows at the same time", y, x_logarithmic: true, y_logarithmic: false };
    for (way, subjects) in charts::ways() {
        for (what, load, y) in [
            ("requests", Load::REQUESTS, "thousand requests a second"),
            ("streams", Load::STREAM, "Gbit/s"),
            ("UDP packets", Load::DATAGRAMS, "thousand packets a second"),
        ] {
            let title = format!("{way}: {what}");
            card(body, &title, &curves::draw(&charts::by_flows(results, &subjects, load), &flows(y), &title));
        }
    }
    let crowd = [
        charts::by_endpoints(results, Load::CONNECTIONS, "connection", "ours"),
        charts::by_endpoints(results, Load::REQUESTS, "request", "adopted"),
    ];
    let axes = curves::Axes { x: "endpoints of the network", y: "µs", x_logarithmic: true, y_logarithmic: false };
    card(body, "Among so many endpoints", &curves::draw(&crowd, &axes, "Among so many endpoints"));
    body.push_str("</div>\n");
}

fn tables(body: &mut String, report: &Report<'_>) {
    body.push_str("<h2>All figures</h2>\n<div class=\"card\"><details open><summary>Targets</summary><div class=\"scroll\"><table>\n");
    body.push_str("<tr><th>what<th>how<th>measured<th>must<th>rounds<th>verdict</tr>\n");
    for judgement in report.judgements {
        let verdict = judgement.verdict();
        let close = if judgement.is_close() { ", close" } else { "" };
        let cells =
            [&judgement.row, &judgement.detail, &judgement.shown(), &judgement.wanted()].map(|cell| escaped(cell));
        let _ = writeln!(
            body,
            "<tr><td>{}<td>{}<td class=\"{}\">{verdict}{close}</tr>",
            cells.join("<td>"),
            judgement.samples,
            class(verdict)
        );
    }
    body.push_str("</table></div></details></div>\n<div class=\"card\"><details><summary>Rates</summary><div class=\"scroll\"><table>\n");
    body.push_str("<tr><th>what<th>rate<th>p50<th>p99</tr>\n");
    for row in report.rates() {
        let _ = writeln!(body, "<tr><td>{}</tr>", row.map(|cell| escaped(&cell)).join("<td>"));
    }
    body.push_str("</table></div></details></div>\n");
    drops(body, report);
}

/// That nothing of what was measured was thrown away by us; or what was.
fn drops(body: &mut String, report: &Report<'_>) {
    let _ = writeln!(
        body,
        "<div class=\"card\"><details><summary>What our programs dropped</summary><div class=\"scroll\"><table>"
    );
    for (site, reasons) in &report.session.drops {
        let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let told = if reasons.is_empty() { "nothing".to_owned() } else { reasons.join(", ") };
        let _ = writeln!(body, "<tr><td>{}<td>{}</tr>", escaped(&site.to_string()), escaped(&told));
    }
    body.push_str("</table></div></details></div>\n");
}
