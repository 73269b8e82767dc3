fn main() -> std::process::ExitCode {
    benches::exit(measure())
}
fn measure() -> anyhow::Result<()> {
    let path = std::env::args_os().nth(1).unwrap();
    for row in benches::guard::program::measure(path.as_ref())? {
        println!("{row:?}");
    }
    Ok(())
}
