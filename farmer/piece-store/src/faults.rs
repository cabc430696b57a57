//! Stops a writer before its n-th step, as a crash would; outside this crate's tests it does nothing.

#[cfg(test)]
pub(crate) use armed::Faults;
#[cfg(not(test))]
pub(crate) use unarmed::Faults;

#[cfg(not(test))]
mod unarmed {
    /// No faults.
    #[derive(Debug, Default)]
    pub(crate) struct Faults;

    impl Faults {
        /// A step of writing; always goes on.
        #[expect(clippy::unused_self, reason = "the armed one counts")]
        pub(crate) fn step(&self) -> std::io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod armed {
    use std::io;
    use std::sync::atomic::{AtomicI64, Ordering};

    /// Counts the steps of writing down; from zero on every step fails.
    #[derive(Debug)]
    pub(crate) struct Faults {
        left: AtomicI64,
        kind: io::ErrorKind,
    }

    impl Default for Faults {
        fn default() -> Self {
            Self::after(i64::MAX, io::ErrorKind::Other)
        }
    }

    impl Faults {
        /// Lets `steps` steps pass, then fails with `kind`.
        pub(crate) fn after(steps: i64, kind: io::ErrorKind) -> Self {
            Self { left: AtomicI64::new(steps), kind }
        }

        /// Lets `steps` further steps pass.
        pub(crate) fn set(&self, steps: i64) {
            self.left.store(steps, Ordering::SeqCst);
        }

        /// A step of writing.
        pub(crate) fn step(&self) -> io::Result<()> {
            if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
                self.left.store(0, Ordering::SeqCst);
                return Err(io::Error::new(self.kind, "injected"));
            }
            Ok(())
        }
    }
}
