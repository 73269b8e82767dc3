//! Serving systemd's watchdog (`sd_watchdog_enabled(3)`): the daemon says that it lives as long as its engine takes requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use super::notify;

/// How often it is to be told, if systemd watches us: three times in the time it waits.
pub fn period() -> Option<Duration> {
    let variable = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let pid = variable("WATCHDOG_PID").unwrap_or_else(|| u64::from(std::process::id()));
    let limit = variable("WATCHDOG_USEC").filter(|limit| *limit > 0)?;
    (pid == u64::from(std::process::id())).then(|| Duration::from_micros(limit) / 3)
}

/// Tells systemd, by `tell`, each period and by way of the engine: where a request would wait for ever, nothing is told,
/// and systemd starts the daemon again. The datapath runs on meanwhile.
pub async fn serve<T: Send>(engine: Arc<Mutex<T>>, period: Duration, mut tell: impl FnMut() + Send) {
    let mut period = interval(period);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        drop(engine.lock().await);
        tell();
    }
}

/// Tells it.
pub fn tell() {
    if let Err(error) = notify::systemd("WATCHDOG=1") {
        tracing::warn!("systemd could not be told that the daemon lives: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_told_while_the_engine_takes_no_request() {
        let engine = Arc::new(Mutex::new(()));
        let told = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&told);
        let second = Duration::from_secs(1);
        let tell = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        tokio::spawn(serve(Arc::clone(&engine), second, tell));
        tokio::time::sleep(second * 10).await;
        let before = told.load(Ordering::Relaxed);
        assert!(before >= 9, "told {before} times in 10 periods");
        let stuck = engine.lock().await;
        tokio::time::sleep(second * 10).await;
        assert_eq!(told.load(Ordering::Relaxed), before, "a stuck engine is not reported as alive");
        drop(stuck);
        tokio::time::sleep(second * 3).await;
        assert!(told.load(Ordering::Relaxed) > before);
    }
}
