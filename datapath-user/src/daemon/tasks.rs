//! What goes on beside the requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datapath_common::abi::DropReason;
use tokio::sync::broadcast;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::api::App;
use crate::engine::{InventoryReceiver, Readers};
use crate::kernel::netlink::Watch;
use crate::view::{Event, Names};

/// Changes of links and addresses come in bursts: this long is waited for the rest of one. With many devices, each look at
/// them takes milliseconds, and a container that starts or ends changes them a dozen times.
const SETTLE: Duration = Duration::from_millis(50);

/// The same where a container of dockerd's waits to be let in: soon its first process runs.
const SETTLE_WAITING: Duration = Duration::from_millis(2);

/// How soon is looked again, without being told of a change, for an interface that dockerd named and that is not there
/// yet: first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// How often the host is looked at without being told of a change, and expired flows are swept.
const PERIOD: Duration = Duration::from_secs(5);

/// Drops of one reason are logged at most this often. The counters have them all.
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// Follows the host, and dockerd where `docker` is given.
pub async fn follow(app: App, mut watch: Watch, mut docker: Option<InventoryReceiver>) {
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut waiting, mut retry) = (false, RETRY.0);
    loop {
        let thorough = tokio::select! {
            changed = watch.changed() => {
                if let Err(error) = changed {
                    tracing::error!("changes of the host are only seen every {PERIOD:?}: {error:#}");
                    sleep(PERIOD).await;
                }
                tokio::select! {
                    () = sleep(if waiting { SETTLE_WAITING } else { SETTLE }) => {}
                    () = inventory_changed(&mut docker) => retry = RETRY.0,
                }
                false
            }
            () = inventory_changed(&mut docker) => {
                retry = RETRY.0;
                false
            }
            () = sleep(retry), if waiting => {
                retry = (retry * 2).min(RETRY.1);
                false
            }
            _ = period.tick() => true,
        };
        let mut engine = app.engine.lock().await;
        let resynced = engine.resync(thorough).await;
        waiting = engine.waits_for_docker();
        drop(engine);
        resynced.gone.iter().for_each(|endpoint| app.tell_detached(endpoint));
        for failure in resynced.failures {
            tracing::warn!("the host could not be followed, it is tried again: {failure}");
        }
    }
}

/// Waits for news of dockerd: for ever, where it is not followed or has nothing more to tell.
async fn inventory_changed(docker: &mut Option<InventoryReceiver>) {
    let ended = match docker {
        Some(inventory) => inventory.changed().await.is_err(),
        None => true,
    };
    if ended {
        std::future::pending::<()>().await;
    }
}

/// Frees expired flows. The programs reclaim them too, where they need room.
pub async fn sweep(readers: Readers) {
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let datapath = Arc::clone(&readers.kernel.datapath);
        match tokio::task::spawn_blocking(move || datapath.flows().sweep(datapath.tables())).await {
            Ok(Ok(0)) => {}
            Ok(Ok(freed)) => tracing::debug!(freed, "expired flows swept"),
            Ok(Err(error)) => tracing::warn!("expired flows could not be swept: {error:#}"),
            Err(error) => tracing::warn!("expired flows could not be swept: {error}"),
        }
    }
}

/// Reads the events of the programs, logs some and passes all on to those who listen.
pub async fn report_drops(readers: Readers, listeners: broadcast::Sender<Arc<Event>>) {
    let mut events = match readers.kernel.datapath.events() {
        Ok(events) => events,
        Err(error) => return tracing::error!("dropped packets are counted, but not reported: {error:#}"),
    };
    let mut logged: HashMap<u32, Instant> = HashMap::new();
    loop {
        let event = match events.next().await {
            Ok(event) => event,
            Err(error) => return tracing::error!("dropped packets are counted, but no longer reported: {error:#}"),
        };
        let log = logged.get(&event.reason).is_none_or(|last| last.elapsed() >= LOG_PERIOD);
        if !log && listeners.receiver_count() == 0 {
            continue;
        }
        let shown = Event::of_drop(&event, &Names(&readers.snapshot()));
        if log {
            logged.insert(event.reason, Instant::now());
            let reason = DropReason::from_number(event.reason).map_or("unknown", DropReason::name);
            tracing::info!(reason, endpoint = shown.endpoint, network = shown.network, "{}", shown.message);
        }
        // Nobody listening is no error.
        let _ = listeners.send(Arc::new(shown));
    }
}

/// Carries on what the programs log.
pub async fn carry_program_log(readers: Readers) {
    let carried = async { readers.kernel.datapath.program_log()?.forward().await };
    if let Err(error) = carried.await {
        tracing::error!("what the programs log is lost: {error:#}");
    }
}
