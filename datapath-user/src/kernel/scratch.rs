//! A network namespace for the length of a test.

use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Runs `test` on a thread in a new network namespace, which is gone with the thread.
pub fn in_namespace(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("tests of the kernel layer run as root");
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The same for an asynchronous test.
pub fn in_namespace_async(test: impl AsyncFnOnce() + Send) {
    in_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test());
    });
}
