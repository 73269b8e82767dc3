//! `GET /metrics` in the Prometheus text format.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::App;
use super::answer::Denial;
use crate::view::{self, Port, Status};

/// `GET /metrics`
pub async fn metrics(State(app): State<App>) -> Result<Response, Denial> {
    let status = view::status(&app.readers, &app.started)?;
    let ports = view::ports(&app.readers.snapshot(), app.readers.kernel.datapath.tables())?;
    let content_type = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((content_type, text(&status, &ports)).into_response())
}

fn text(status: &Status, ports: &[Port]) -> String {
    let mut page = Page(String::new());
    page.family("datapath_info", "gauge", "Version of the daemon, kernel and way of attaching.");
    let info = [("version", status.version.as_str()), ("kernel", &status.kernel), ("attach", &status.attach)];
    page.sample("datapath_info", &info, 1);
    page.family("datapath_drops_total", "counter", "Packets dropped by the programs, by reason.");
    for (reason, count) in &status.drops {
        page.sample("datapath_drops_total", &[("reason", reason)], *count);
    }
    page.family("datapath_guard_native", "gauge", "Whether the XDP program is on an uplink, where it was asked for.");
    for uplink in &status.guard.uplinks {
        page.sample("datapath_guard_native", &[("uplink", &uplink.name)], uplink.native.into());
    }
    page.family("datapath_guard_passed_total", "counter", "Frames passed by the XDP program.");
    page.sample("datapath_guard_passed_total", &[], status.guard.passed);
    page.family(
        "datapath_guard_drops_total",
        "counter",
        "Frames dropped by the XDP program, by reason; also in datapath_drops_total.",
    );
    for (reason, count) in &status.guard.dropped {
        page.sample("datapath_guard_drops_total", &[("reason", reason)], *count);
    }
    page.family("datapath_guard_denied", "gauge", "Prefixes on the deny list.");
    page.sample("datapath_guard_denied", &[], status.guard.denied);
    for (name, count) in &status.metrics {
        let name = format!("datapath_{name}_total");
        page.family(&name, "counter", "See datapath_common::abi::Metric.");
        page.sample(&name, &[], *count);
    }
    page.family("datapath_flows", "gauge", "Flows in the table.");
    page.sample("datapath_flows", &[], status.flows.used);
    page.family("datapath_flows_capacity", "gauge", "Flows the table has room for.");
    page.sample("datapath_flows_capacity", &[], status.flows.capacity);
    page.family("datapath_table_entries", "gauge", "Entries in use, by table.");
    for (table, fill) in &status.tables {
        page.sample("datapath_table_entries", &[("table", table)], fill.used);
    }
    page.family("datapath_table_capacity", "gauge", "Entries there can be, by table.");
    for (table, fill) in &status.tables {
        page.sample("datapath_table_capacity", &[("table", table)], fill.capacity);
    }
    page.family("datapath_publication_flows_total", "counter", "New flows by published port.");
    for port in ports {
        let labels = [("published", port.published.as_str()), ("endpoint", &port.endpoint)];
        page.sample("datapath_publication_flows_total", &labels, port.hits);
    }
    page.0
}

/// A page in the making.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Label values are names, addresses and releases, escaped all the same.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escape(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format() {
        let mut page = Page(String::new());
        page.family("a_total", "counter", "Help.");
        page.sample("a_total", &[("x", "1\"2\\3\n"), ("y", "z")], 7);
        page.sample("b", &[], 0);
        let expected = "# HELP a_total Help.\n# TYPE a_total counter\na_total{x=\"1\\\"2\\\\3\\n\",y=\"z\"} 7\nb 0\n";
        assert_eq!(page.0, expected);
    }
}
