//! The tables.

use std::time::Duration;

use comparison::quartiles::Quartiles;
use comparison::table::Table;

use super::{Answer, Cell, Figures, Memory, Who};

/// Where a host was not measured.
const NOTHING: &str = "not reached";

/// Prints what was measured, as Markdown.
pub fn print(cells: &[Cell]) {
    println!("`docker run`, in ms: median (and quartiles) of the rounds.\n\n{}", runs(cells).markdown());
    println!("From `docker run` to the first answer, in ms.\n\n{}", answers(cells).markdown());
    println!(
        "Memory of the network with the containers that were there already, in MiB.\n\n{}",
        memory(cells).markdown()
    );
    for cell in cells {
        for (who, why) in cell.hosts.iter().filter_map(|(who, figures)| Some((who, figures.as_ref().err()?))) {
            println!("Not reached by {}, {} ports, {} containers: {why}.", who.name(), cell.ports, cell.containers);
        }
    }
}

fn runs(cells: &[Cell]) -> Table {
    let head =
        ["ports", "containers", "their ports", "stock", "bare", "datapath", "datapath − bare", "stock − datapath"];
    let mut table = Table::new(&head);
    for cell in cells {
        let run = |who| {
            let figures = figures(cell, who)?;
            let times = Quartiles::of(figures.samples.iter().map(|sample| milliseconds(sample.run)))?;
            Some(format!("{times:.0}, {} rounds", figures.samples.len()))
        };
        let difference = |one, other| {
            let pairs = figures(cell, one)?.samples.iter().zip(&figures(cell, other)?.samples);
            Quartiles::of(pairs.map(|(a, b)| milliseconds(a.run) - milliseconds(b.run)))
        };
        table.row(
            place(cell)
                .into_iter()
                .chain(Who::ALL.map(|who| run(who).unwrap_or_else(|| NOTHING.to_owned())))
                .chain([rounded(difference(Who::Datapath, Who::Bare)), rounded(difference(Who::Stock, Who::Datapath))]),
        );
    }
    table
}

fn answers(cells: &[Cell]) -> Table {
    let mut table = Table::new(&[
        "ports",
        "containers",
        "their ports",
        "stock: since start",
        "since return",
        "bare: since start",
        "since return",
        "datapath: since start",
        "since return",
    ]);
    for cell in cells {
        let time = |who, moment: fn(Answer) -> Duration| {
            let Some(figures) = figures(cell, who) else { return NOTHING.to_owned() };
            let answers = figures.samples.iter().filter_map(|sample| sample.answer);
            rounded(Quartiles::of(answers.map(|answer| milliseconds(moment(answer)))))
        };
        let both = Who::ALL
            .iter()
            .flat_map(|who| [time(*who, |answer| answer.since_start), time(*who, |answer| answer.since_return)]);
        table.row(place(cell).into_iter().chain(both));
    }
    table
}

fn memory(cells: &[Cell]) -> Table {
    let mut table = Table::new(&[
        "ports",
        "containers",
        "their ports",
        "stock: processes",
        "docker-proxy",
        "dockerd",
        "bare: dockerd",
        "datapath: daemon",
        "maps and programs",
        "dockerd",
    ]);
    for cell in cells {
        let of = |who, part: fn(&Memory) -> u64| {
            let figures = figures(cell, who);
            figures.map_or_else(|| NOTHING.to_owned(), |figures| format!("{:.1}", mebibytes(part(&figures.memory))))
        };
        let processes = figures(cell, Who::Stock).map(|figures| figures.memory.processes.to_string());
        let row = [
            processes.unwrap_or_else(|| NOTHING.to_owned()),
            of(Who::Stock, |memory| memory.resident),
            of(Who::Stock, |memory| memory.dockerd),
            of(Who::Bare, |memory| memory.dockerd),
            of(Who::Datapath, |memory| memory.resident),
            of(Who::Datapath, |memory| memory.kernel),
            of(Who::Datapath, |memory| memory.dockerd),
        ];
        table.row(place(cell).into_iter().chain(row));
    }
    table
}

fn place(cell: &Cell) -> [String; 3] {
    [cell.ports.to_string(), cell.containers.to_string(), cell.published.to_string()]
}

fn figures(cell: &Cell, who: Who) -> Option<&Figures> {
    cell.hosts.get(&who)?.as_ref().ok()
}

fn rounded(times: Option<Quartiles>) -> String {
    times.map_or_else(String::new, |times| format!("{times:.0}"))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
