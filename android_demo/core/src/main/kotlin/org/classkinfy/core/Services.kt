package org.classkinfy.core

import java.util.ServiceLoader

/** What jars on the class path offer, by their `META-INF/services`. */
object Services {
    // In the very form that R8 understands.

    @JvmStatic
    fun engines(): List<EngineProvider> =
        ServiceLoader.load(EngineProvider::class.java, EngineProvider::class.java.classLoader).toList()

    /** The first one, or null. */
    @JvmStatic
    fun decoder(): Decoder? =
        ServiceLoader.load(Decoder::class.java, Decoder::class.java.classLoader).firstOrNull()
}
