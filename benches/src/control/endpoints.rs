//! Attaching and detaching endpoints by the API, one by one.

use anyhow::Result;
use comparison::own::Own;
use lab::{Container, Host, Namespace, http};

use super::{Figure, timed};

/// So many are attached and detached on a host with few, and among a thousand.
const COUNT: usize = 50;

pub(super) fn figures(few: Option<&Own>, crowd: Option<&Own>) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    if let Some(own) = few {
        let guests: Vec<_> =
            (0..COUNT).map(|number| Namespace::new(&format!("guest{number}"))).collect::<Result<_>>()?;
        let guests: Vec<_> = guests.iter().map(|guest| (guest.name(), guest.name())).collect();
        let attached = guests.iter().map(|guest| attach(own.host(), *guest)).collect::<Result<_>>()?;
        let detached = guests.iter().map(|guest| detach(own.host(), guest.1)).collect::<Result<_>>()?;
        figures.extend(both("few present", attached, detached));
    }
    if let Some(own) = crowd {
        let others: Vec<&Container> = own.others().iter().take(COUNT).collect();
        let detached = others.iter().map(|other| detach(own.host(), &other.name)).collect::<Result<_>>()?;
        let again = others.iter().map(|other| attach(own.host(), (other.namespace.name(), &other.name)));
        figures.extend(both("1,000 present", again.collect::<Result<_>>()?, detached));
    }
    Ok(figures)
}

fn both(present: &str, attached: Vec<f64>, detached: Vec<f64>) -> Vec<Figure> {
    let attached = Figure::times("attach an endpoint", present, attached);
    let detached = Figure::times("detach an endpoint", present, detached);
    attached.into_iter().chain(detached).collect()
}

/// Milliseconds.
fn attach(host: &Host, (netns, name): (&str, &str)) -> Result<f64> {
    let request = serde_json::json!({ "netns": netns, "name": name, "network": "app" }).to_string();
    timed(|| Ok(http::ask(host.socket(), "POST", "/endpoints", &request)?))
}

fn detach(host: &Host, name: &str) -> Result<f64> {
    timed(|| Ok(http::ask(host.socket(), "DELETE", &format!("/endpoints/{name}"), "")?))
}
