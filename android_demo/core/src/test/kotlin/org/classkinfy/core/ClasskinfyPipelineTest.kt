package org.classkinfy.core

import java.io.File
import java.nio.ByteBuffer
import java.util.concurrent.atomic.AtomicInteger
import kotlin.concurrent.thread
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class ClasskinfyPipelineTest {
    @Test
    fun `answers are Python's, key for key`() {
        for (entry in Vectors.entries("answers")) {
            val pixel = entry.getJSONArray("pixel").ints()
            val json = Tiny.pipeline().analyse(Tiny.image(pixel)).toJson()
            val stages = json.remove("timings_ms") as JSONObject
            assertEquals(plain(entry.getJSONObject("answer")), plain(json))
            assertEquals(entry.getJSONArray("stages").texts().toSet(), stages.keys().asSequence().toSet())
        }
    }

    @Test
    fun `the fused form answers the same`() {
        for (entry in Vectors.entries("answers")) {
            val options = Options(precision = "fp32", form = Form.FUSED)
            val json = Tiny.pipeline(options = options).analyse(Tiny.image(entry.getJSONArray("pixel").ints())).toJson()
            json.remove("timings_ms")
            val expected = entry.getJSONObject("answer").put("runtime", "onnx fp32 fused")
            assertEquals(plain(expected), plain(json))
        }
    }

    @Test
    fun `each part is told once it is known, before later stages run`() {
        val provider = TinyProvider()
        val told = Told(provider)
        val answer = Tiny.pipeline(provider).analyse(Tiny.image(Tiny.GRADED), told)
        assertEquals(
            listOf("preliminary after screen", "diagnosis mel after classify", "severity moderate after grade_mel"),
            told.calls,
        )
        assertEquals(answer.preliminary, told.preliminary)
        assertEquals("moderate", answer.severity)
    }

    @Test
    fun `the fused form tells all parts in order`() {
        val provider = TinyProvider()
        val told = Told(provider)
        Tiny.pipeline(provider, Options(precision = "fp32", form = Form.FUSED)).analyse(Tiny.image(Tiny.GRADED), told)
        assertEquals(listOf("preliminary", "diagnosis", "severity"), told.calls.map { it.substringBefore(' ') })
    }

    @Test
    fun `what is not graded has no severity told, and a refused image no diagnosis`() {
        val provider = TinyProvider()
        val told = Told(provider)
        val pipeline = Tiny.pipeline(provider)
        assertNull(pipeline.analyse(Tiny.image(Tiny.NOT_GRADED), told).severity)
        val refused = pipeline.analyse(Tiny.image(Tiny.REFUSED), told)
        assertEquals(listOf("hair"), refused.reasons)
        assertEquals(false, refused.accepted)
        assertEquals(
            listOf(
                "preliminary after screen", "diagnosis df after classify",
                "preliminary after screen", "diagnosis null after classify",
            ),
            told.calls,
        )
        assertEquals(JSONObject.NULL, refused.toJson().get("diagnosis"))
    }

    @Test
    fun `a folder is opened with the runtime and the decoder on the class path`() {
        val options = Options(precision = "fp32", threads = 2)
        ClasskinfyPipeline.open(Vectors.wholeBundle, options).use { pipeline ->
            val answer = pipeline.analyse(byteArrayOf(4, 10, 70))
            assertEquals("mel", answer.diagnosis)
            assertEquals(pipeline.sha256, answer.bundle)
            assertEquals(Signer.Unsigned, pipeline.signer)
            assertThrows(ImageException::class.java) { pipeline.analyse(ByteArray(2)) }
        }
    }

    @Test
    fun `a runtime or an accelerator that is not there is told`() {
        for (runtime in listOf("litert", "tensorflow")) {
            val error = assertThrows(EngineException::class.java) {
                ClasskinfyPipeline.open(Vectors.wholeBundle, Options(runtime = runtime))
            }
            assertTrue(error.message!!, runtime in error.message!! && "onnxruntime" in error.message!!)
        }
        val options = Options(accelerator = "gpu")
        assertThrows(EngineException::class.java) { ClasskinfyPipeline.open(Vectors.wholeBundle, options).load() }
    }

    @Test
    fun `an unsigned bundle is not opened where keys are trusted`() {
        val key = (Bundle.open(Vectors.file("bundles/signed")).signer as Signer.Unknown).key
        val options = Options(trustedKeys = listOf(key))
        assertThrows(BundleException::class.java) { ClasskinfyPipeline.open(Vectors.wholeBundle, options) }
        ClasskinfyPipeline.open(Vectors.file("bundles/signed"), options).close()
    }

    @Test
    fun `without a decoder decoded pixels are taken`() {
        val pipeline = ClasskinfyPipeline(Tiny.bundle(), TinyProvider(), null)
        assertThrows(ImageException::class.java) { pipeline.analyse(ByteArray(3)) }
        assertEquals("mel", pipeline.analyse(Tiny.image(Tiny.GRADED)).diagnosis)
    }

    @Test
    fun `only what runs on every image is loaded beforehand`() {
        val provider = TinyProvider()
        Tiny.pipeline(provider, Options(precision = "fp32", threads = 3)).load()
        val loaded = provider.opened.keys.map { it.removePrefix("models/").removeSuffix("_fp32.onnx") }
        assertEquals(listOf("prepare", "screen", "classify"), loaded)
        assertEquals(3, provider.threads)
    }

    @Test
    fun `a camera's frame is inspected by prepare alone`() {
        val provider = TinyProvider()
        fun plane(size: Int, level: Int) = ByteBuffer.wrap(ByteArray(size) { level.toByte() })
        val gray = YuvImage(64, 48, plane(3072, 60), plane(768, 128), plane(768, 128), 64, 32, 1)
        val quality = Tiny.pipeline(provider).inspect(gray)
        assertEquals(listOf("hair"), quality.reasons) // 60 / 256 is above its limit
        assertEquals(listOf("prepare"), provider.ran)
        assertEquals(false, quality.accepted)
        assertEquals(setOf("hair_coverage", "sharpness", "dark_share", "bright_share"), quality.measures.keys)
    }

    @Test
    fun `one pipeline answers several threads, one after another`() {
        val inside = AtomicInteger()
        val most = AtomicInteger()
        val provider = TinyProvider { _, _ ->
            most.accumulateAndGet(inside.incrementAndGet()) { one, other -> maxOf(one, other) }
            Thread.sleep(1)
            inside.decrementAndGet()
        }
        val pipeline = Tiny.pipeline(provider)
        val answers = java.util.Collections.synchronizedList(ArrayList<String?>())
        List(4) { thread { repeat(5) { answers += pipeline.analyse(Tiny.image(Tiny.GRADED)).diagnosis } } }
            .forEach { it.join() }
        assertEquals(List(20) { "mel" }, answers.toList())
        assertEquals(1, most.get())
    }

    @Test
    fun `every answer carries the manifest's notices`() {
        val pipeline = Tiny.pipeline()
        val manifest = JSONObject(File(Vectors.wholeBundle, "manifest.json").readText())
        for (pixel in listOf(Tiny.GRADED, Tiny.REFUSED)) {
            val answer = pipeline.analyse(Tiny.image(pixel))
            assertEquals(manifest.getString("disclaimer"), answer.disclaimer)
            assertEquals(manifest.getString("severity_notice"), answer.severityNotice)
        }
    }

    private class Told(private val provider: TinyProvider) : Listener {
        val calls = ArrayList<String>()
        var preliminary: Map<String, Float>? = null

        override fun onPreliminary(
            quality: Map<String, Float>, reasons: List<String>, preliminary: Map<String, Float>?,
        ) {
            this.preliminary = preliminary
            note("preliminary")
        }

        override fun onDiagnosis(diagnosis: String?, confidence: Float, probabilities: Map<String, Float>) =
            note("diagnosis $diagnosis")

        override fun onSeverity(severity: String, probabilities: Map<String, Float>) = note("severity $severity")

        private fun note(what: String) {
            calls += "$what after ${provider.ran.last()}"
        }
    }

    /** Maps, lists and doubles: an integer and a double of one value are the same in JSON. */
    private fun plain(value: Any?): Any? = when (value) {
        is JSONObject -> value.keys().asSequence().associateWith { plain(value.get(it)) }
        is JSONArray -> List(value.length()) { plain(value.get(it)) }
        is Number -> value.toDouble()
        JSONObject.NULL -> null
        else -> value
    }
}
