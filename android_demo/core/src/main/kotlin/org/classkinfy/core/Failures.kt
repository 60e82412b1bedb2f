package org.classkinfy.core

// A message says what is wrong, with which value, and what to do about it.

internal fun badBundle(
    what: String,
    remedy: String = "copy the bundle again, or export it again",
    cause: Throwable? = null,
) = BundleException("$what; $remedy", cause)

internal fun badImage(what: String, remedy: String, cause: Throwable? = null) =
    ImageException("$what; $remedy", cause)

internal fun badEngine(
    what: String,
    remedy: String = "run the self-test, or open the bundle in another runtime or precision",
    cause: Throwable? = null,
) = EngineException("$what; $remedy", cause)
