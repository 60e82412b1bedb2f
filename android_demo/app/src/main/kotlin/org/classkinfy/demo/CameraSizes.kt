package org.classkinfy.demo

/** Which of a camera's sizes to take. */
internal class CameraSizes(private val all: List<Dimensions>) {
    init {
        require(all.isNotEmpty()) { "it has no size of a kind that is needed" }
    }

    class Dimensions(val width: Int, val height: Int) {
        val pixels: Int get() = width * height

        /** Of sensors' own shape, so that no side is cut off. */
        val isFourToThree: Boolean get() = 3 * width == 4 * height
    }

    /** The smallest that does not have to be enlarged to the capture's size. */
    fun ofFrames(width: Int, height: Int): Dimensions {
        val enough = preferred().filter { it.width >= width && it.height >= height }
        return enough.minByOrNull { it.pixels } ?: largest(preferred())
    }

    /** The largest that decoders need not scale down. */
    fun ofPhotos(mostPixels: Int): Dimensions =
        largest(preferred().filter { it.pixels <= mostPixels }.ifEmpty { listOf(all.minByOrNull { it.pixels }!!) })

    private fun preferred(): List<Dimensions> = all.filter { it.isFourToThree }.ifEmpty { all }

    private fun largest(sizes: List<Dimensions>): Dimensions = sizes.maxByOrNull { it.pixels }!!
}
