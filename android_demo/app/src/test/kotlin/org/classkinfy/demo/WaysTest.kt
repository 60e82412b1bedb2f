package org.classkinfy.demo

import java.io.File
import org.classkinfy.core.Bundle
import org.classkinfy.core.Engine
import org.classkinfy.core.EngineProvider
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class WaysTest {
    private class Named(override val name: String, override val format: String) : EngineProvider {
        override val version = "1"

        override fun open(model: ByteArray, name: String, threads: Int, accelerator: String?): Engine = error(name)
    }

    private val manifest = Bundle.open(File(System.getProperty("classkinfy.bundle"))).manifest
    private val ways = Ways.of(
        manifest, listOf(Named("onnxruntime", "onnx"), Named("litert", "litert"), Named("other", "none")), threads = 2,
    )

    @Test
    fun theCpuIsTheDefaultAndWhatTheBundleDoesNotHoldIsNotOffered() {
        assertEquals(listOf("onnxruntime", "litert"), ways.filter { it.accelerator == null }.map { it.runtime })
        assertEquals(null, ways.first().accelerator)
        assertTrue(ways.all { it.threads == 2 })
    }

    @Test
    fun acceleratorsAreGivenFloats() =
        assertEquals(setOf("fp32"), ways.filter { it.accelerator != null }.map { it.precision }.toSet())

    @Test
    fun anAcceleratorIsFollowedByItsOwnRuntimeOnTheCpu() {
        val gpu = ways.single { it.accelerator == "gpu" }
        val inTurn = Ways.inTurn(ways, gpu).map { "${it.runtime} ${it.accelerator}" }
        assertEquals(listOf("litert gpu", "litert null", "onnxruntime null"), inTurn)
    }

    @Test
    fun threadsAreThoseOfTheLargeCores() =
        assertEquals(listOf(1, 1, 2, 4, 4), listOf(1, 2, 4, 8, 16).map(Ways::threads))
}
