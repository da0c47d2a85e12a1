//! Owns `AsyncActivation`, which async logic is given, and what async logic is to the
//! runtime. Imports `activation`, `driver`, `once`, `run`.

use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::runtime::activation::Activation;
use crate::runtime::failure::Failure;
use crate::runtime::once::Begun;
use crate::runtime::run::Run;
use crate::value::Value;

/// Logic that is polled until it ends.
pub(crate) type Polled<'l> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'l>>;

/// Async logic of a routine.
pub(crate) trait AsyncLogic: Send + Sync {
    /// Begins it. Nothing of it runs before the first poll.
    fn begin(&self, cx: AsyncActivation) -> Polled<'_>;
}

impl<F> AsyncLogic for F
where
    F: AsyncFn(AsyncActivation) -> Result<(), Failure> + Send + Sync + 'static,
{
    fn begin(&self, cx: AsyncActivation) -> Polled<'_> {
        Box::pin(async move { self(cx).await })
    }
}

/// One activation of an async routine. It is an [`Activation`], and all that an activation
/// can do it can; only [`once`](Self::once) takes an async effect.
///
/// It is owned, so that what is spawned can have a clone of it. Once the activation is over,
/// committed or not, whatever would read or write through it is
/// [`WorkError::ActivationOver`](crate::WorkError::ActivationOver): what is spawned is to be
/// awaited before the logic ends.
///
/// An activation that is cancelled or takes longer than its timeout is dropped at the
/// `await` where it stands. An effect of `once` that was under way is uncertain then, as
/// after a crash.
///
/// ```
/// use evenkeel::{AsyncActivation, Failure};
/// async fn pay(cx: AsyncActivation) -> Result<(), Failure> {
///     let key = cx.idempotency_key("charge-card");
///     let receipt: String = cx.once("charge-card", async || charge(1_200, &key).await).await?;
///     cx.emit("out", receipt)?;
///     Ok(())
/// }
/// # async fn charge(_: u32, _: &str) -> Result<String, std::io::Error> { Ok("r".into()) }
/// let mut flow = evenkeel::Flow::new("orders");
/// flow.add_async("pay", pay)?.concurrency(100);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone)]
pub struct AsyncActivation {
    activation: Arc<Activation>,
}

impl AsyncActivation {
    pub(crate) fn of(run: &Arc<Run>) -> Self {
        Self {
            activation: Arc::new(Activation::of(run)),
        }
    }

    /// Runs an effect outside of the store, and remembers its result, as
    /// [`Activation::once`] does. What it syncs is awaited, and holds up nobody else.
    ///
    /// # Errors
    /// As [`Activation::once`].
    pub async fn once<T, E>(
        &self,
        name: &str,
        effect: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, Failure>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Failure>,
    {
        self.effect(name, None, effect).await
    }

    /// The same for one of several effects of this name, told apart by a key: the id of
    /// what it is done for.
    ///
    /// # Errors
    /// As [`once`](Self::once).
    pub async fn once_keyed<T, E>(
        &self,
        name: &str,
        key: &str,
        effect: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, Failure>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Failure>,
    {
        self.effect(name, Some(key), effect).await
    }

    async fn effect<T, E>(
        &self,
        name: &str,
        key: Option<&str>,
        effect: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, Failure>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Failure>,
    {
        let named = (name.to_owned(), key.map(str::to_owned));
        let run = Arc::clone(&self.activation.run);
        let begin = {
            let (run, (name, key)) = (Arc::clone(&run), named.clone());
            let core = run.core()?;
            move || run.begin_effect(&core, &name, key.as_deref())
        };
        if let Begun::Done(result) = run.core()?.beside(begin).await?? {
            return Ok(result.deserialize()?);
        }
        let (result, ended) = match effect().await {
            Ok(done) => (Some(Value::from_serialize(&done)?), Ok(done)),
            Err(e) => (None, Err(e.into())),
        };
        let core = run.core()?;
        let end = {
            let (run, (name, key)) = (Arc::clone(&run), named);
            let core = Arc::clone(&core);
            move || run.end_effect(&core, &name, key.as_deref(), result)
        };
        core.beside(end).await??;
        ended
    }
}

impl Deref for AsyncActivation {
    type Target = Activation;

    fn deref(&self) -> &Activation {
        &self.activation
    }
}

impl fmt::Debug for AsyncActivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
