package org.classkinfy.core

/**
 * Everything this library throws on purpose: what went wrong, with which value, and what to do.
 *
 * ```
 * ClasskinfyException
 * ├── BundleException    a bundle that cannot be opened: altered, incomplete, too new, of no trusted signer
 * ├── ImageException     a photo that cannot be decoded or framed
 * └── EngineException    a model that cannot be loaded or run, or gives no numbers
 * ```
 */
sealed class ClasskinfyException(message: String, cause: Throwable? = null) : Exception(message, cause)

class BundleException(message: String, cause: Throwable? = null) : ClasskinfyException(message, cause)

class ImageException(message: String, cause: Throwable? = null) : ClasskinfyException(message, cause)

class EngineException(message: String, cause: Throwable? = null) : ClasskinfyException(message, cause)
