//! A moment a task waits for; lives on the shard of that task.
//!
//! The executor's own timer registers itself anew each time it is polled, and forgets none of
//! these before it is due; a task that waits for something else beside it would fill the
//! executor's wheel. This one is handed to the executor once per task that waits.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use glommio::timer::Timer;

use crate::clock;

/// The executor counts milliseconds: so shortly before the moment its wake-up may have been the
/// one that was waited for, and it is asked again.
const SLACK: Duration = Duration::from_millis(5);

/// See the module text.
#[derive(Debug)]
pub(crate) struct Alarm {
    due: Instant,
    armed: Option<(Timer, Waker)>,
}

impl Alarm {
    /// For a moment.
    pub(crate) fn at(due: Instant) -> Self {
        Self { due, armed: None }
    }

    /// For some time from now.
    pub(crate) fn after(wait: Duration) -> Self {
        Self::at(clock::now() + wait)
    }

    /// The moment.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = clock::now();
        if self.due <= now {
            return Poll::Ready(());
        }
        let waits = now + SLACK < self.due
            && self.armed.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker()));
        if !waits {
            let mut timer = Timer::new(self.due - now);
            if Pin::new(&mut timer).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            self.armed = Some((timer, cx.waker().clone()));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::FutureExt as _;
    use futures_lite::future::poll_fn;
    use glommio::{LocalExecutorBuilder, Placement};

    #[test]
    fn rings_in_time_however_often_it_is_polled() {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .spawn(|| async {
                let wait = Duration::from_millis(40);
                let start = clock::now();
                // A task that is polled all the time.
                let busy = poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    Poll::<()>::Pending
                });
                busy.or(Alarm::after(wait)).await;
                assert!(start.elapsed() >= wait);
                // And one that nothing else wakes.
                let start = clock::now();
                Alarm::after(wait).await;
                assert!(start.elapsed() >= wait);
            })
            .expect("an executor starts");
        executor.join().expect("the checks hold");
    }
}
