//! The page.

use super::Report;

pub fn page(report: &Report<'_>) -> String {
    format!("<!doctype html><title>Datapath</title><p>{}", report.summary())
}
