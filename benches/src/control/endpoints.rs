//! Attaching and detaching endpoints by the API, one by one and several at once.

use anyhow::{Result, anyhow};
use comparison::own::Own;
use lab::{Host, Namespace, http};

use super::{Figure, timed};

/// So many are attached and detached on a host with few.
const COUNT: usize = 50;
/// So many clients ask at once.
const AT_ONCE: usize = 8;

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
        let others: Vec<_> = own.others().iter().map(|other| (other.namespace.name(), other.name.as_str())).collect();
        let detached = others.iter().map(|other| detach(own.host(), other.1)).collect::<Result<_>>()?;
        let (by_one, at_once) = others.split_at(others.len() / 2);
        let attached = by_one.iter().map(|other| attach(own.host(), *other)).collect::<Result<_>>()?;
        figures.extend(both("1,000 present, or the first 500 of them", attached, detached));
        let share = timed(|| attach_at_once(own.host(), at_once))? / at_once.len() as f64;
        figures.extend(Figure::times("attach an endpoint", "500 more, 8 at once: the share of each", vec![share]));
    }
    Ok(figures)
}

fn attach_at_once(host: &Host, endpoints: &[(&str, &str)]) -> Result<()> {
    std::thread::scope(|scope| {
        let clients: Vec<_> = endpoints
            .chunks(endpoints.len().div_ceil(AT_ONCE).max(1))
            .map(|part| scope.spawn(move || part.iter().try_for_each(|one| attach(host, *one).map(drop))))
            .collect();
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)
    })
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
