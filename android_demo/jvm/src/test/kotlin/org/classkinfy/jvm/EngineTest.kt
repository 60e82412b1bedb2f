package org.classkinfy.jvm

import android.system.Os
import java.io.File
import org.classkinfy.core.Bundle
import org.classkinfy.core.Dtype
import org.classkinfy.core.EngineException
import org.classkinfy.core.EngineProvider
import org.classkinfy.core.Services
import org.classkinfy.core.StageSpec
import org.classkinfy.core.Tensor
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.junit.runners.Parameterized

/** What every engine does on real kernels, whichever runtime it is made of. */
@RunWith(Parameterized::class)
class EngineTest(private val runtime: String) {
    private val bundle = Bundle.open(File(checkNotNull(System.getProperty("classkinfy.bundle"))))
    private val provider: EngineProvider = Services.engines().single { it.name == runtime }
    private val prepare: StageSpec = bundle.manifest.stages.single { it.name == "prepare" }
    private val file = checkNotNull(bundle.manifest.model("prepare", provider.format, "fp32"))
    private val entry = file.entries.getValue("prepare")
    private val image = prepare.inputs.single()

    private fun open() = provider.open(bundle.read(file.path), file.path, 1, null)

    /** A smooth image, which no hair is removed from, with every byte there is. */
    private fun ramp(): Tensor {
        val width = image.shape[2]
        val bytes = ByteArray(image.shape.fold(1) { all, side -> all * side }) { at ->
            val x = at / 3 % width
            (255 * x / (width - 1)).toByte()
        }
        return Tensor.of(bytes, *image.shape)
    }

    @Test
    fun bytesAbove127GoInAndComeOutAsTheyAre() = open().use { engine ->
        val given = ramp()
        val outputs = engine.run(entry, mapOf(image.name to given), prepare.outputs)
        val clean = outputs.getValue("clean")
        assertEquals(Dtype.UINT8, clean.dtype)
        assertTrue(given.bytes().any { it < 0 })
        assertArrayEquals(given.bytes(), clean.bytes())
    }

    @Test
    fun onAndroidOnnxRuntimesTelemetryIsSwitchedOff() = open().use {
        if (runtime == "onnxruntime") assertEquals("1", Os.environment["ORT_DISABLE_TELEMETRY"])
    }

    @Test
    fun anEngineRunsAgainWithOtherImages() = open().use { engine ->
        fun quality(image: Tensor) =
            engine.run(entry, mapOf(this.image.name to image), prepare.outputs).getValue("quality").floats()
        val first = quality(ramp())
        val black = quality(Tensor.allocate(image.dtype, *image.shape))
        assertTrue("${first.toList()}", !first.contentEquals(black))
        assertArrayEquals(first, quality(ramp()), 0f)
    }

    @Test
    fun whatWasGivenStaysWhenTheEngineRunsAgain() = open().use { engine ->
        val first = engine.run(entry, mapOf(image.name to ramp()), prepare.outputs).getValue("clean")
        engine.run(entry, mapOf(image.name to Tensor.allocate(image.dtype, *image.shape)), prepare.outputs)
        assertArrayEquals(ramp().bytes(), first.bytes())
    }

    @Test
    fun aModelThatIsNoneIsRefused() {
        val error = assertThrows(EngineException::class.java) {
            provider.open(ByteArray(1000) { 7 }, "models/broken", 1, null)
        }
        assertTrue(error.message!!, "models/broken" in error.message!!)
    }

    @Test
    fun anAcceleratorThatIsNotKnownIsRefused() {
        val error = assertThrows(EngineException::class.java) {
            provider.open(bundle.read(file.path), file.path, 1, "abacus")
        }
        assertTrue(error.message!!, "abacus" in error.message!! && "known:" in error.message!!)
    }

    @Test
    fun anInputThatIsMissingIsToldByName() {
        open().use { engine ->
            val error = assertThrows(EngineException::class.java) {
                engine.run(entry, emptyMap(), prepare.outputs)
            }
            assertTrue(error.message!!, image.name in error.message!!)
        }
    }

    @Test
    fun anInputOfAnotherDtypeIsRefused() {
        open().use { engine ->
            assertThrows(EngineException::class.java) {
                engine.run(entry, mapOf(image.name to Tensor.allocate(Dtype.FLOAT32, *image.shape)), prepare.outputs)
            }
        }
    }

    @Test
    fun anOutputThatIsNotGivenIsRefused() {
        open().use { engine ->
            assertThrows(EngineException::class.java) {
                engine.run(entry, mapOf(image.name to ramp()), bundle.manifest.stages.last().outputs)
            }
        }
    }

    companion object {
        @JvmStatic
        @Parameterized.Parameters(name = "{0}")
        fun runtimes(): List<String> = listOf("onnxruntime", "litert")
    }
}
